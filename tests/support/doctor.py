"""What the doctor says of a server behind TLS with a key, for notebook 08: `python tests/support/doctor.py` writes it there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat
from gateway import Authority, gateway

from bacalhau_magic.node import _daemon

NOTEBOOK = Path(__file__).parents[2] / "notebooks/08_a_real_cluster.ipynb"
_KEY = "front-door-key-8c1f"
_BLOCK = re.compile(r"(?<=^```\n)passed  configuration .*?(?=^```$)", re.MULTILINE | re.DOTALL)


def said() -> str:
    """The doctor's lines, as a terminal has them, of an embedded node behind a gateway; it runs all checks, jobs too."""
    with tempfile.TemporaryDirectory() as folder:
        authority = Authority(Path(folder))
        with gateway(_daemon.environment(), f"Bearer {_KEY}", context=authority.context()) as opened:
            variables = {"BACALHAU_API_URL": opened.url, "BACALHAU_API_KEY": _KEY, "BACALHAU_API_TLS_CAFILE": str(authority.file)}
            command = [sys.executable, "-m", "bacalhau_magic", "doctor"]
            done = subprocess.run(command, env=os.environ | variables, cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip() + "\n"


def shown() -> str:
    """The lines that the notebook has."""
    (found,) = (match[0] for cell in nbformat.read(NOTEBOOK, as_version=4).cells for match in _BLOCK.finditer(cell.source))
    return str(found)


def comparable(text: str) -> list[str]:
    """The lines without what differs from run to run (ports, names of nodes, numbers) and from machine to machine."""
    text = re.sub(r"\bn-[0-9a-f]{8}\b", "n-…", text)
    text = re.sub(r"^\w+ +GPUs .*", "GPUs …", text, flags=re.MULTILINE)
    text = re.sub(r"(; engines: |version v[\d.]+; ).*", r"\1…", text)
    return re.sub(r"\d[\d.]*", "#", text).splitlines()


if __name__ == "__main__":
    content = nbformat.read(NOTEBOOK, as_version=4)
    lines = said()
    for cell in content.cells:
        cell.source = _BLOCK.sub(lambda _: lines, cell.source)
    NOTEBOOK.write_text(nbformat.writes(content) + "\n", encoding="utf-8")
