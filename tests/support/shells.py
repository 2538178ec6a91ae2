"""The POSIX shells that the shell's wrapper is run in: each that is here, and busybox's own, whose every tool is its own too."""

import shutil

import pytest


def _mark(program):
    if program == "busybox":
        return pytest.mark.busybox
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed")


SHELLS = [(shell, _mark(shell[0])) for shell in (["dash"], ["bash"], ["bash", "--posix"], ["busybox", "sh"])]
