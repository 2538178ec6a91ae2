"""What a teacher grades with: the key that students must not reach, and the policy that keeps it out."""

from __future__ import annotations

__all__ = ["KEY", "POLICY"]

KEY = "teachers-key-0123456789"
POLICY = """
message = "Ask in room 101."
[allowed]
runtime = ["local"]
[max]
timeout = "20s"
[locked]
enabled = false
network = "none"
recordings = false
"""
