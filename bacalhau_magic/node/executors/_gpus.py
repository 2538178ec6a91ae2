"""The graphics cards of this machine, as the makers' own tools list them, and the devices that a job needs to use one."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["AMD", "INTEL", "NVIDIA", "Gpu", "devices", "found", "system_folders", "visible"]

NVIDIA, AMD, INTEL = "NVIDIA", "AMD/ATI", "Intel"
"""The makers' names, as a node reports them."""

_MEBIBYTE = 1 << 20
_NVIDIA_SHARED = ("nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset")
# Where the makers' libraries look up what a card is and which processor it is near to.
_SYSTEM_FOLDERS = ("/sys/devices", "/sys/bus/pci", "/sys/class/drm", "/sys/class/kfd", "/sys/dev/char", "/sys/module/nvidia")


@dataclass(frozen=True, slots=True)
class Gpu:
    """A graphics card: its number among its maker's, memory in bytes, PCI address ("" where the tool gives none)."""

    index: int
    name: str
    vendor: str
    memory: int
    bus: str = ""


def found() -> tuple[Gpu, ...]:
    """The cards that nvidia-smi, rocm-smi and xpu-smi list; a tool that is missing or fails has none."""
    with ThreadPoolExecutor(3) as pool:
        return tuple(gpu for gpus in pool.map(lambda look: look(), (_nvidia, _amd, _intel)) for gpu in gpus)


def _nvidia() -> list[Gpu]:
    answer = _ask("nvidia-smi", "--query-gpu=index,gpu_name,memory.total,pci.bus_id", "--format=csv,noheader,nounits")
    return _read(lambda: _nvidia_cards(answer))


def _nvidia_cards(answer: str) -> Iterator[Gpu]:
    for row in csv.reader(answer.splitlines(), skipinitialspace=True):
        index, name, memory, bus = row
        # Cards that share the machine's memory have none of their own to tell.
        yield Gpu(int(index), name, NVIDIA, int(memory) * _MEBIBYTE if memory.strip().isdigit() else 0, bus.strip().lower())


def _amd() -> list[Gpu]:
    answer = _ask("rocm-smi", "--showproductname", "--showbus", "--showmeminfo", "vram", "--json")
    return _read(lambda: _amd_cards(json.loads(answer)))


def _amd_cards(cards: Any) -> Iterator[Gpu]:
    for key in sorted((key for key in cards if key.startswith("card")), key=lambda key: int(key[4:])):
        card = {name.lower(): value for name, value in cards[key].items()}
        name = card.get("card series") or card.get("card model") or "AMD GPU"
        memory = int(card["vram total memory (b)"]) // _MEBIBYTE * _MEBIBYTE
        yield Gpu(int(key[4:]), str(name), AMD, memory, str(card.get("pci bus", "")).lower())


def _intel() -> list[Gpu]:
    answer = _ask("xpu-smi", "discovery", "--json")
    return _read(lambda: _intel_cards(json.loads(answer)))


def _intel_cards(answer: Any) -> Iterator[Gpu]:
    for entry in answer["device_list"]:
        number = int(entry["device_id"])
        facts = json.loads(_ask("xpu-smi", "discovery", "--json", "--device", str(number)))
        memory = int(facts["memory_physical_size_byte"]) // _MEBIBYTE * _MEBIBYTE
        yield Gpu(number, str(entry["device_name"]), INTEL, memory, str(entry["pci_bdf_address"]).lower())


def _read(cards: Callable[[], Iterable[Gpu]]) -> list[Gpu]:
    """All cards of one maker, or none: half a list would give numbers to the wrong cards."""
    try:
        return list(cards())
    except (ValueError, LookupError, TypeError, AttributeError):
        return []


def _ask(tool: str, *words: str) -> str:
    """What a tool prints; "" where it is missing, fails or hangs."""
    program = shutil.which(tool)
    if program is not None:
        with suppress(OSError, subprocess.SubprocessError, UnicodeDecodeError):
            return subprocess.run(
                [program, *words], capture_output=True, text=True, timeout=20, check=True, stdin=subprocess.DEVNULL
            ).stdout
    return ""


def devices(gpus: Iterable[Gpu], dev: Path = Path("/dev")) -> tuple[str, ...]:
    """The device files of these cards and those that all cards of a maker share. Raises OSError where a card has none."""
    paths: list[str] = []
    for gpu in gpus:
        if gpu.vendor == NVIDIA:
            paths += [_device(dev / f"nvidia{gpu.index}", gpu), *(str(dev / name) for name in _NVIDIA_SHARED if (dev / name).exists())]
            continue
        if gpu.vendor == AMD:
            paths.append(_device(dev / "kfd", gpu))
        paths += [_device(dev / "dri" / "by-path" / f"pci-{gpu.bus}-{kind}", gpu) for kind in ("card", "render")]
    return tuple(dict.fromkeys(paths))


def _device(path: Path, gpu: Gpu) -> str:
    if not path.exists():
        raise OSError(f"failed to start container: could not find attached device for GPU {gpu.name} at {path}")
    return os.path.realpath(path)


def visible(gpus: Sequence[Gpu]) -> dict[str, str]:
    """The variables that keep the makers' libraries to these cards, where nothing else does."""
    numbers = {vendor: ",".join(str(gpu.index) for gpu in gpus if gpu.vendor == vendor) for vendor in (NVIDIA, AMD, INTEL)}
    names = {NVIDIA: "CUDA_VISIBLE_DEVICES", AMD: "ROCR_VISIBLE_DEVICES", INTEL: "ZE_AFFINITY_MASK"}
    return {names[vendor]: text for vendor, text in numbers.items() if text}


def system_folders() -> tuple[str, ...]:
    """The system's folders that a job with a card needs to read."""
    return tuple(folder for folder in _SYSTEM_FOLDERS if os.path.isdir(folder))
