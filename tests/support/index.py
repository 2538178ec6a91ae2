"""A package index on loopback, with tiny wheels that are built here."""

from __future__ import annotations

import base64
import hashlib
import threading
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

USER, PASSWORD = "reader", "wh33l-s3cret"


def wheel(folder: Path, name: str, version: str = "1.0", files: Mapping[str, str] | None = None, needs: tuple[str, ...] = ()) -> Path:
    """A pure wheel in `folder`; without `files` a module of its name that has its version."""
    module = name.replace("-", "_")
    content = dict(files or {f"{module}.py": f"version = {version!r}\n"})
    info = f"{module}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n" + "".join(f"Requires-Dist: {need}\n" for need in needs)
    content[f"{info}/METADATA"] = metadata
    content[f"{info}/WHEEL"] = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    record = "".join(f"{path},sha256={_digest(text)},{len(text.encode())}\n" for path, text in content.items())
    content[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n"
    file = folder / f"{module}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as archive:
        for path, text in content.items():
            archive.writestr(path, text)
    return file


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")


class Index:
    """A simple index of the wheels in a folder, that wants a password; `asked` are the paths of its requests."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[str] = []
        self.expected = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, self, directory=str(folder)))
        self.host = f"127.0.0.1:{self.server.server_port}"
        self.url = f"http://{USER}:{PASSWORD}@{self.host}/index"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def variables(self) -> dict[str, str]:
        """What makes pip and uv ask this index alone."""
        return {"PIP_INDEX_URL": self.url, "PIP_TRUSTED_HOST": "127.0.0.1", "PIP_RETRIES": "1", "NO_PROXY": "127.0.0.1"}


class _Handler(SimpleHTTPRequestHandler):
    def __init__(self, index: Index, *args: object, **kwargs: object) -> None:
        self.index = index
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        self.index.asked.append(self.path)
        if self.headers.get("Authorization") != self.index.expected:
            self.send_response(401)
            self.send_header("WWW-Authenticate", "Basic realm=index")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if not self.path.startswith("/index/"):
            super().do_GET()
            return
        name = self.path.removeprefix("/index/").strip("/")
        found = sorted(self.index.folder.glob(f"{name.replace('-', '_')}-*.whl"))
        body = "".join(f'<a href="/{file.name}">{file.name}</a>\n' for file in found).encode()
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[Index]:
    """An index of the folder's wheels for as long as the block lasts."""
    index = Index(folder)
    try:
        yield index
    finally:
        index.server.shutdown()
        index.server.server_close()
