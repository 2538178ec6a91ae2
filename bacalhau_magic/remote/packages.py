"""Installs what the cell asked for before it runs: by uv where it is there, else by pip, into a folder of its own.

What the installer writes goes to the job's log without the addresses of its index.
"""

import os
import re
import sys

load = load  # noqa: F821, PLW0127 - put here by bootstrap.py

FILE = "requirements.txt"
READY = "packages"  # beside the request: what a node has installed already lies here
TAIL = 60  # lines of the installer that are looked at for what went wrong
LINE = 2000  # characters of such a line

_PASSED_ON = {
    "PIP_INDEX_URL": "UV_DEFAULT_INDEX",
    "PIP_EXTRA_INDEX_URL": "UV_INDEX",
    "PIP_FIND_LINKS": "UV_FIND_LINKS",
    "PIP_NO_INDEX": "UV_NO_INDEX",
    "PIP_TRUSTED_HOST": "UV_INSECURE_HOST",
    "PIP_CONSTRAINT": "UV_CONSTRAINT",
    "PIP_CERT": "SSL_CERT_FILE",
    "PIP_PROXY": "ALL_PROXY",
    "PIP_TIMEOUT": "UV_HTTP_TIMEOUT",
    "PIP_DEFAULT_TIMEOUT": "UV_HTTP_TIMEOUT",
}
_HARMLESS = ("PIP_DISABLE_PIP_VERSION_CHECK", "PIP_NO_INPUT", "PIP_CONFIG_FILE", "PIP_RETRIES", "PIP_ROOT_USER_ACTION", "PIP_NO_CACHE_DIR")

_MISSING = (
    re.compile(r"No matching distribution found for ([^\s;(]+)"),
    re.compile(r"requirement ([^\s;(]+) \(from versions"),
    re.compile(r"Because ([\w.-]+) was not found"),
    re.compile(r"there (?:is|are) no versions? of ([\w.\[\]=<>!~*+-]+)"),
    re.compile(r"there are no versions that satisfy ([\w.\[\]=<>!~*+-]+)"),
)
_BROKEN = (
    re.compile(r"[Ff]ailed (?:to build|building wheel for) `?([\w.\[\]-]+)"),
    re.compile(r"Could not build wheels for ([\w.-]+)"),
    re.compile(r"Failed to (?:download|fetch|prepare)[^`]*`([^`]+)`"),
)
_UNREACHABLE = re.compile(
    r"NewConnectionError|Max retries exceeded|error sending request|dns error|Could not connect|Failed to fetch|SSLError"
)


def bring(here, work, out):
    """Makes the cell's packages importable: (None, or what went wrong as a sentence)."""
    folder = os.path.join(here, READY)
    if not os.path.isdir(folder) or not os.listdir(folder):
        folder = work + "-packages"
        problem = install(here, folder, out)
        if problem:
            return folder, problem
    use(folder)
    return folder, None


def use(folder):
    """The folder stands before the other packages of this Python, also for the cell's own processes."""
    import site

    before = list(sys.path)
    site.addsitedir(folder)
    added = [place for place in sys.path if place not in before]
    at = next((number for number, place in enumerate(before) if place.endswith("-packages")), len(before))
    sys.path[:] = before[:at] + added + before[at:]
    for name, place in (("PYTHONPATH", folder), ("PATH", os.path.join(folder, "bin"))):
        os.environ[name] = os.pathsep.join(filter(None, (place, os.environ.get(name))))


def install(here, folder, out):
    """Installs into the folder; what went wrong as a sentence, or None."""
    import subprocess

    os.makedirs(folder, exist_ok=True)
    file = os.path.join(here, FILE)
    command, variables = _command(folder, file)
    if command is None:
        return "The packages could not be installed: neither uv nor pip is there. Choose an --image that has one of them."
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=variables,
        start_new_session=os.name != "nt",
    )
    load("cellprocess").on_stop(lambda: load("cellprocess").kill_tree(process.pid))
    hide = _hidden(variables)
    last = []
    for line in iter(lambda: process.stdout.readline(LINE), b""):
        line = hide(line.decode("utf-8", "replace"))
        out.plain(line.encode("utf-8"))
        last = last[-TAIL:] + [line]
    if process.wait() == 0:
        return None
    with open(file, encoding="utf-8") as asked:
        return _problem("".join(last), asked.read())


def _command(folder, file):
    """(the installer's command line or None, its variables)."""
    import shutil

    variables = dict(os.environ, PIP_DISABLE_PIP_VERSION_CHECK="1", PIP_NO_INPUT="1", PIP_ROOT_USER_ACTION="ignore")
    uv = variables.pop("BACALHAU_MAGIC_UV", "") or shutil.which("uv")
    left = [name for name in variables if name.startswith("PIP_") and name not in _PASSED_ON and name not in _HARMLESS]
    if uv and not left:
        for name, other in _PASSED_ON.items():
            if variables.get(name):
                value = variables[name]
                variables.setdefault(other, value.replace(" ", ",") if other == "UV_FIND_LINKS" else value)
        variables.update(UV_COMPILE_BYTECODE="1", UV_LINK_MODE="copy", UV_NO_PROGRESS="1", UV_NO_CONFIG="1", UV_NO_CACHE="1", NO_COLOR="1")
        return [uv, "pip", "install", "--python", sys.executable, "--target", folder, "-r", file], variables
    try:
        import importlib.util

        has_pip = importlib.util.find_spec("pip") is not None
    except ImportError:
        has_pip = False
    if not has_pip:
        return None, variables
    options = ["--target", folder, "--no-color", "--progress-bar", "off", "--no-cache-dir", "--no-warn-script-location"]
    return [sys.executable, "-m", "pip", "install", *options, "-r", file], variables


def _hidden(variables):
    """What takes the addresses of the index out of a line."""
    known = set()
    for name, value in variables.items():
        if (
            "URL" in name
            or "INDEX" in name
            or "LINKS" in name
            or "PROXY" in name
            or "HOST" in name
            or name.endswith(("_PASSWORD", "_USERNAME"))
        ):
            for word in value.split():
                host = word.partition("://")[2].partition("/")[0]
                known.update(
                    part for part in (word, host, host.rpartition("@")[2], host.rpartition("@")[2].partition(":")[0]) if len(part) > 3
                )
                user, _, password = host.rpartition("@")[0].partition(":")
                known.update(part for part in (user, password) if len(part) > 3)
    words = sorted(known, key=len, reverse=True)
    parts = [re.escape(word) for word in words] + [r"https?://[^\s/]+", r"host='[^']*'"]
    pattern = re.compile("|".join(parts))
    return lambda line: pattern.sub("(index)", line)


def _problem(said, asked):
    """The sentence of a failed install: which package, and why as far as the installer said."""
    for pattern in _MISSING:
        found = pattern.search(said)
        if found and not _UNREACHABLE.search(said):
            return "The package %s could not be installed: the index has no such package, or no version for this Python." % found.group(1)
    for pattern in _BROKEN:
        found = pattern.search(said)
        if found:
            return "The package %s could not be installed: it has no wheel for this machine, and building it failed." % found.group(1)
    names = ", ".join(line.split(";")[0].split(" --hash")[0].strip() for line in asked.split("\n") if line.strip())
    names = names if len(names) < 200 else names[:200] + "…"
    if _UNREACHABLE.search(said):
        return "The packages could not be installed (%s): the index did not answer." % names
    errors = [line.strip() for line in said.split("\n") if re.match(r"\s*(ERROR|error|×|Caused by)", line)]
    return "The packages could not be installed (%s)%s" % (names, ": " + errors[-1] if errors else ".")
