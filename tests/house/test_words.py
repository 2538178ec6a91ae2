"""No tracked file names a machine, a registry or a secret."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_HERE = "tests/house/test_words.py"

MACHINE = re.compile(r"/work/(?:wt|main|shared|briefs)|/home/(?!me\b|user\b|you\b|jovyan\b)[a-z]\w*/|/Users/(?!me\b|you\b)[a-z]\w*/")
REGISTRY = re.compile(
    r"\b(?:files\.pythonhosted|pypi|test\.pypi|registry\.npmjs|registry\.yarnpkg)\.(?:org|com)\b|artifactory|devpi|/simple/"
)
SECRET = re.compile(
    r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----|\bAKIA[0-9A-Z]{16}\b|\bgh[pousr]_[A-Za-z0-9]{30,}\b|\bxox[abprs]-[A-Za-z0-9-]{20,}|"
    r"\bsk-[A-Za-z0-9]{32,}\b|\bey[A-Za-z0-9_-]{20,}\.ey[A-Za-z0-9_-]{20,}\."
)
MAKING = re.compile(r"\bissue \d+\b|\b(?:Claude|Anthropic|ChatGPT|LLM)\b|\bAI[- ](?:assistant|generated)\b|\blater issue\b", re.IGNORECASE)


def _texts() -> list[tuple[str, str]]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split("\0")
    assert "README.md" in listed
    found = []
    for name in listed:
        path = ROOT / name
        if name in ("", _HERE) or not path.is_file():
            continue
        try:
            found.append((name, path.read_text(encoding="utf-8")))
        except UnicodeDecodeError:
            continue  # a picture
    return found


@pytest.mark.parametrize(
    "pattern", [MACHINE, REGISTRY, SECRET, MAKING], ids=["machine path", "package registry", "secret", "how it was made"]
)
def test_no_tracked_file_says(pattern: re.Pattern[str]) -> None:
    """Paths of one machine, hosts of package registries, keys, and words about how the project was made stand nowhere."""
    found = [f"{name}: {match[0]}" for name, text in _texts() for match in pattern.finditer(text)]
    assert found == []


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (MACHINE, "/work/" + "wt/x"),
        (REGISTRY, "https://pypi" + ".org/x"),
        (SECRET, "AKIA" + "A" * 16),
        (SECRET, "-----BEGIN RSA " + "PRIVATE KEY-----"),
        (MAKING, "see issue " + "12"),
    ],
)
def test_it_would_be_found(pattern: re.Pattern[str], text: str) -> None:
    """Each pattern finds what it is for."""
    assert pattern.search(text)
