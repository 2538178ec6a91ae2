"""Takes the values of secrets out of bytes and texts, as they are and encoded; the same file runs in the job and here.

What is looked for: the value itself; as it stands in JSON, in a Python repr, in HTML; percent-encoded; as hexadecimal
digits; and in base64, wherever it lies in what was encoded. Of a value of several lines also each longer line. A value
that was cut, reversed or encrypted is not found.
"""

import binascii
import os

MARK = "••••"
MARK_BYTES = MARK.encode("utf-8")
SHORTEST = 4
"""Characters below which a value can't be told from ordinary text."""
_CODED = 6
"""The same for what it is encoded as."""

_LINE = 12  # bytes from which on a line of a longer secret is one by itself
_PLAIN = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
_SAFE = (b"", b"/", b"!*'()", b"!*'();/?:@&=+$,#")  # urllib's quote, encodeURIComponent, encodeURI
_HTML = ((b"&", b"&amp;"), (b"<", b"&lt;"), (b">", b"&gt;"), (b'"', b"&quot;"))


def forms(value):
    """The byte strings that a secret's value may stand as, longest first."""
    raw = value.encode("utf-8", "surrogateescape")
    lines = raw.splitlines()
    found = {raw, raw.strip()}.union(line for line in lines if len(line) >= _LINE and len(lines) > 1)
    for piece in list(found):
        found.update(form for form in _forms(piece) if len(form) >= _CODED)
    return sorted((form for form in found if len(form) >= SHORTEST), key=len, reverse=True)


def _forms(raw):
    text = raw.decode("utf-8", "surrogateescape")
    yield _json(text, True).encode("ascii", "replace")
    yield _json(text, False).encode("utf-8", "surrogateescape")
    yield repr(text)[1:-1].encode("utf-8", "replace")
    yield repr(raw)[2:-1].encode("ascii")
    yield from _html(raw)
    for safe in _SAFE:
        for case in ("%%%02X", "%%%02x"):
            quoted = b"".join(bytes((byte,)) if byte in _PLAIN + safe else (case % byte).encode("ascii") for byte in raw)
            yield quoted
            yield quoted.replace(b"%20", b"+")
    digits = binascii.hexlify(raw)
    yield digits
    yield digits.upper()
    yield from _base64(raw)


def _json(text, plain):
    try:
        from json.encoder import encode_basestring, encode_basestring_ascii
    except ImportError:
        from json import dumps

        return dumps(text, ensure_ascii=plain)[1:-1]
    return (encode_basestring_ascii if plain else encode_basestring)(text)[1:-1]


def _html(raw):
    for mark, apostrophe in ((b"'", b"&#x27;"), (b"'", b"&#39;"), (b"", b"")):
        escaped = raw
        for char, entity in _HTML:
            escaped = escaped.replace(char, entity)
        yield escaped.replace(mark, apostrophe) if mark else escaped


def _base64(raw):
    """The whole, and what stays the same of it wherever it begins and ends within three bytes."""
    whole = [binascii.b2a_base64(raw, newline=False)]
    for before in range(3):
        coded = binascii.b2a_base64(b"\0" * before + raw, newline=False)
        whole.append(coded[-(-8 * before // 6) : 8 * (before + len(raw)) // 6])
    for coded in whole:
        yield coded
        yield coded.replace(b"+", b"-").replace(b"/", b"_")


class Redactor:
    """Knows the values of secrets, by their names, and takes them out; its repr has none of them."""

    def __init__(self, values):
        self.names = tuple(values)
        self._known = [(form, name) for name, value in values.items() for form in forms(value)]
        self._wide = [
            (value.encode(coding, "surrogatepass"), name)
            for name, value in values.items()
            for coding in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")
        ]
        self._forms = sorted({form for form, _ in self._known}, key=len, reverse=True)
        self._longest = max(map(len, self._forms), default=0)
        self._firsts = frozenset(form[0] for form in self._forms)

    def __repr__(self):
        return "Redactor(%s)" % ", ".join(self.names)

    def text(self, text):
        """A text without the secrets."""
        raw = text.encode("utf-8", "surrogatepass")
        clean = self.data(raw)
        return text if clean is raw else clean.decode("utf-8", "surrogatepass")

    def data(self, data):
        """Bytes without the secrets; the very same object where there were none."""
        spans = self.spans(data)
        if not spans:
            return data
        pieces, at = [], 0
        for start, end in spans:
            pieces += [data[at:start], MARK_BYTES]
            at = end
        return b"".join(pieces + [data[at:]])

    def facts(self, value):
        """Texts, lists and dicts of them without the secrets, keys included."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.facts(key): self.facts(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)([self.facts(item) for item in value])
        return value

    def shown(self, name, data):
        """A part of a result by its name: a display's JSON, data by MIME type, without the secrets in its texts; others as they are."""
        if name != "mime" and not name.startswith("display:"):
            return data
        import json

        data = bytes(data)
        try:
            found = json.loads(data.decode("utf-8"))
        except (ValueError, RecursionError):
            return self.data(data)
        if not isinstance(found, dict):
            return self.data(data)
        return json.dumps({kind: item if is_picture(kind) else self.facts(item) for kind, item in found.items()}).encode("ascii")

    def held(self, data):
        """The name of a secret that encoded data holds, or ""; also as numpy and others keep characters."""
        data = bytes(data)
        return next((name for form, name in self._known + self._wide if form in data), "")

    def spans(self, data):
        """(start, end) of what is to be taken out, in order, those that touch joined."""
        found = []
        for form in self._forms:
            at = data.find(form)
            while at >= 0:
                found.append((at, at + len(form)))
                at = data.find(form, at + 1)
        return joined(found)

    def begins(self, data):
        """Where the earliest beginning of a form is that the end of `data` cuts off; its length where there is none."""
        start = max(0, len(data) - self._longest + 1)
        for at in range(start, len(data)):
            if data[at] in self._firsts:
                rest = data[at:]
                if any(len(form) > len(rest) and form.startswith(rest) for form in self._forms):
                    return at
        return len(data)


def is_picture(kind):
    """Whether a MIME type's data are pixels, which chance may make look like a short secret."""
    return kind.startswith("image/") and "svg" not in kind


def joined(spans):
    """Spans in order, those that touch made one."""
    whole = []
    for start, end in sorted(spans):
        if whole and start <= whole[-1][1]:
            whole[-1] = (whole[-1][0], max(end, whole[-1][1]))
        else:
            whole.append((start, end))
    return whole


class Stream:
    """One stream of output in pieces: what may be the beginning of a secret is held back until more comes."""

    def __init__(self, redactor):
        self._redactor = redactor
        self._held = b""
        self._masked = 0  # bytes at the beginning of what is held that belong to a secret whose mark went out

    def feed(self, data, last=False):
        """What can be passed on now; with `last` all that is left."""
        data = self._held + data
        spans = self._redactor.spans(data)
        if self._masked:
            spans = joined(spans + [(0, self._masked)])
        stop = len(data) if last else self._redactor.begins(data)
        pieces, at, masked = [], 0, self._masked if stop == 0 else 0
        for start, end in spans:
            if start >= stop:
                break
            pieces.append(data[at:start])
            if start or not self._masked:
                pieces.append(MARK_BYTES)
            at, masked = min(end, stop), max(0, end - stop)
        pieces.append(data[at:stop])
        self._held, self._masked = data[stop:], masked
        return b"".join(pieces)


def of_job(request):
    """The redactor of a job's secrets, whose values stand in its environment; None where it has none."""
    names = request.get("secrets") or ()
    values = {name: os.environ[name] for name in names if os.environ.get(name)}
    return Redactor(values) if values else None
