"""A real JupyterLab and a real Chromium, for the tests of this folder."""

from __future__ import annotations

from fronts import Lab, chromium, front_end, lab, labextensions, notebook7, page, shots

__all__ = ["Lab", "chromium", "front_end", "lab", "labextensions", "notebook7", "page", "shots"]
