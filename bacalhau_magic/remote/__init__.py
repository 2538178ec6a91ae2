"""What travels into the job: standard library only, no import of ours, Python 3.8 syntax."""

FILES = {
    "python": (
        "bootstrap.py",
        "supervisor.py",
        "cellprocess.py",
        "recorder.py",
        "runner.py",
        "tracebacks.py",
        "codec.py",
        "scalars.py",
        "holders.py",
        "arrays.py",
        "objects.py",
        "tables.py",
        "pickles.py",
        "tensors.py",
        "displays.py",
        "libraries.py",
        "packets.py",
    ),
    "node": ("bootstrap.mjs",),
    "sh": ("bootstrap.sh",),
}
"""The wrapper's files, by the wrapper's name (see `_languages.Language.wrapper`); the first one is started."""

PACKAGES = "packages.py"
"""A further file of the Python wrapper, in a job that installs packages."""

REDACTION = {"python": "redaction.py", "node": "redaction.mjs", "sh": "redaction.awk"}
"""A further file of each wrapper, in a job with secrets."""
