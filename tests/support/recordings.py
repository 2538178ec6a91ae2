"""Records the notebooks that are replayed, and writes their outputs: `python tests/support/recordings.py FILE…`.

It needs a package index for 06. For 07 this machine's cards are two that are none: a stand-in for nvidia-smi lists them, and
the jobs run as plain processes, because no sandbox can be given a device that is not there.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat

from bacalhau_magic._cassettes import Cassette
from notebooks import executed, text

CARDS = "\n".join(f"{number}, NVIDIA A100-SXM4-40GB, 40960, 00000000:00:0{4 + number}.0" for number in (0, 1))
_SHOWN = "\n".join(f"{number}, NVIDIA A100-SXM4-40GB, 40960 MiB" for number in (0, 1))
_TOOL = f"""#!/bin/sh
case "$*" in
"--query-gpu=index,gpu_name,memory.total,pci.bus_id --format=csv,noheader,nounits") echo "{CARDS}";;
"--query-gpu=index,name,memory.total --format=csv,noheader") echo "{_SHOWN}";;
*) exit 1;;
esac
"""


@contextmanager
def stand_ins(folder: Path) -> Iterator[None]:
    """Cards that are none, and no sandbox, on PATH in front of what is there."""
    before = os.environ["PATH"]
    for name, content in (("nvidia-smi", _TOOL), ("bwrap", "#!/bin/sh\nexit 1\n")):
        (folder / name).write_text(content)
        (folder / name).chmod(0o755)
    os.environ["PATH"] = f"{folder}{os.pathsep}{before}"
    try:
        yield
    finally:
        os.environ["PATH"] = before


def record(path: Path) -> None:
    """Run a notebook whose replaying line records instead, without the cells that show what was not recorded."""
    content = nbformat.read(path, as_version=4)
    content.cells = [cell for cell in content.cells if "NotRecordedError" not in cell.source]
    for cell in content.cells:
        cell.source = cell.source.replace("%bacalhau replay ", "%bacalhau record ")
    Cassette(path.with_suffix(".yaml")).remove()
    recording = path.with_name(f".recording-{path.name}")
    nbformat.write(content, recording)
    try:
        executed(recording, path.parent)
    finally:
        recording.unlink()


def main(names: list[str]) -> None:
    """Record each notebook with a node of its own, then write the outputs of its replay."""
    with tempfile.TemporaryDirectory(prefix="bm-rec-") as folder:
        for variable in ("XDG_RUNTIME_DIR", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
            os.environ[variable] = str(Path(folder, variable))
            Path(folder, variable).mkdir(mode=0o700)
        for name in names:
            path = Path(name).absolute()
            tools = Path(folder, path.stem)
            tools.mkdir()
            if "gpu" in path.stem:
                with stand_ins(tools):
                    record(path)
            else:
                record(path)
            subprocess.run([sys.executable, "-m", "bacalhau_magic", "node", "stop"], check=True)
            path.write_text(text(executed(path)), encoding="utf-8")
            subprocess.run([sys.executable, "-m", "bacalhau_magic", "node", "stop"], check=True)


if __name__ == "__main__":
    main(sys.argv[1:])
