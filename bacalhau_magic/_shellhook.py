"""What a shell with our magics does to the process's session, once there is one: loading them must not make it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

surrounds: list[Callable[[Any], None]] = []
"""Called with the Session when it is made."""
