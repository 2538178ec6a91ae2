"""Where the node's files lie."""

from __future__ import annotations

import os
import subprocess
import sys


def test_a_system_without_a_runtime_folder_is_no_news() -> None:
    """Without XDG_RUNTIME_DIR, as in most containers, a folder is found and nothing is printed about it."""
    environment = {name: value for name, value in os.environ.items() if name != "XDG_RUNTIME_DIR"}
    code = "from bacalhau_magic.node._places import Places; print(Places.default().runtime.is_dir())"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("True\n", "")
