"""A planted secret, and where it is found again: written without the product's own code."""

from __future__ import annotations

import base64
import json
import re
import urllib.parse
from pathlib import Path

from bacalhau_magic._bundles import open_bundle
from bacalhau_magic._packets import Assembler

SECRET = "s3cr3t/Plant+d=né&'x\"9-Zq7-do-not-tell"

_PACKET = re.compile(rb"@bacalhau ([0-9a-f]{16}) \d+ [a-z] \S+ \S+ [A-Za-z0-9+/=]*\n")


def forms(secret: str = SECRET) -> set[str]:
    """The secret plain and as programs write it: JSON, repr, URL, base64 within anything, hex."""
    raw, found = secret.encode(), {secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], repr(secret)[1:-1]}
    found |= {urllib.parse.quote(secret), urllib.parse.quote(secret, safe=""), urllib.parse.quote_plus(secret), raw.hex(), secret[:24]}
    for before in range(3):
        coded = base64.b64encode(b"\0" * before + raw)[4:-4].decode()
        found |= {coded, coded.translate(str.maketrans("+/", "-_"))}
    return found


def seen(text: str | bytes) -> list[str]:
    """The forms of the secret that a text shows."""
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    return sorted(form for form in forms() if form.encode() in data)


def unpacked(data: bytes) -> list[bytes]:
    """What the results carry whose packets stand in a log: header and parts of each."""
    found = []
    for nonce in {match[1] for match in _PACKET.finditer(data)}:
        assembler = Assembler(nonce.decode())
        for match in _PACKET.finditer(data):
            if match[1] == nonce:
                assembler.feed(1, match[0].decode())
        blob, _ = assembler.outcome()
        if blob is not None:
            bundle = open_bundle(blob, 1 << 30)
            found += [json.dumps(bundle.header, ensure_ascii=False).encode(), *map(bytes, bundle.parts.values())]
    return found


def found_below(folder: Path) -> tuple[list[str], int, int]:
    """(the files below a folder that have the secret, plain, encoded or in packed results; files looked at; results opened)."""
    bad, files, results = [], 0, 0
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            data, files = path.read_bytes(), files + 1
            packed = unpacked(data)
            results += bool(packed)
            if seen(data) or any(seen(part) for part in packed):
                bad.append(str(path.relative_to(folder)))
    return bad, files, results
