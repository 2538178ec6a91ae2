"""A small image of this machine's Python and shell, for tests that need a container and have no registry to pull from."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from functools import cache
from pathlib import Path

IMAGE = "python:3.11-slim"
"""The name that the recorded jobs ask for; where an image of that name is here already, it is the one that is used."""

_PROGRAMS = ("sh", "ls", "cat", "env", "sleep", "mkdir", "echo", "true", "grep", "id")
_LEFT_OUT = re.compile(r"/(site-packages|test|tests|idlelib|tkinter|turtledemo|ensurepip|lib2to3|__pycache__|config-[^/]*)(/|$)")


@cache
def engine() -> str | None:
    """The container engine that answers here and has the image, by its name; None where there is none."""
    for name in ("docker", "podman"):
        tool = shutil.which(name)
        if tool and subprocess.run([tool, "info"], capture_output=True, timeout=20, check=False).returncode == 0:
            # One that answers may still run nothing: inside of a container itself, or where no registry can be reached.
            return name if _runs(name) else None
    return None


def _runs(name: str) -> bool:
    try:
        provide(name)
    except subprocess.CalledProcessError:
        return False
    return try_out(name).returncode == 0


def try_out(engine: str) -> subprocess.CompletedProcess[str]:
    """Run the image as a job would; what it said and its exit code."""
    limits = ("--network", "none", "--pull", "never", "--cpus", "1", "--memory", "256m", "--pids-limit", "100")
    line = [engine, "run", "--rm", *limits, IMAGE, "python", "-c", "pass"]
    return subprocess.run(line, capture_output=True, text=True, check=False, timeout=60)


def provide(engine: str) -> None:
    """Make the image where the engine has none of its name. Raises CalledProcessError with the engine's words in `stderr`."""
    name = IMAGE if engine == "docker" else f"docker.io/library/{IMAGE}"
    if subprocess.run([engine, "image", "inspect", name], capture_output=True, check=False).returncode == 0:
        return
    change = ["--change", "ENV PATH=/usr/local/bin:/usr/bin:/bin", "--change", 'CMD ["python3"]']
    subprocess.run([engine, "import", *change, "-", name], input=_files(), capture_output=True, check=True, timeout=120)


def _files() -> bytes:
    """The image's files, as a tar archive."""
    places: dict[str, str] = {}
    python = os.path.realpath(sys.executable)
    library = sysconfig.get_path("stdlib")
    programs = {f"/bin/{name}": found for name in _PROGRAMS if (found := shutil.which(name, path="/bin:/usr/bin"))}
    for folder, _, names in os.walk(library):
        if not _LEFT_OUT.search(folder):
            places |= {f"{folder}/{name}": f"{folder}/{name}" for name in names}
    places |= {target: os.path.realpath(source) for target, source in programs.items()} | {python: python}
    binaries = [*programs.values(), python, *(place for place in places if place.endswith(".so"))]
    for library_file in _libraries(binaries):
        places[library_file] = os.path.realpath(library_file)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for target, source in sorted(places.items()):
            archive.add(source, target.lstrip("/"), recursive=False)
        for name in ("python", "python3"):
            link = tarfile.TarInfo(f"usr/local/bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, python
            archive.addfile(link)
        for name in ("tmp", "etc", "proc", "sys", "dev", "root"):
            place = tarfile.TarInfo(name)
            place.type, place.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
            archive.addfile(place)
    return buffer.getvalue()


def _libraries(binaries: list[str]) -> set[str]:
    """The shared libraries that these need, at the paths where they look for them."""
    said = subprocess.run(["ldd", *binaries], capture_output=True, text=True, check=False).stdout
    found = set(re.findall(r"(?:=> |^\s+)(/\S+) \(0x", said, re.MULTILINE))
    return {place for place in found if Path(place).exists()}


if __name__ == "__main__":  # python images.py ENGINE: makes the image and runs it; ends with the engine's words
    provide(sys.argv[1])
    tried = try_out(sys.argv[1])
    sys.exit(tried.stderr if tried.returncode else 0)
