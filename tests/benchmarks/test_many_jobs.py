"""A kernel that watches 100 background jobs, beside the same kernel with none: its CPU, its answers, its requests."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable

import psutil
from kernels import Kernel, start

JOBS = 100
SECONDS = float(os.environ.get("BM_BENCH_SECONDS", "30"))
"""How long the jobs are watched; less where somebody only wants to see that it works."""
QUIET = min(SECONDS, 5.0)
"""How long a kernel without jobs is measured: nothing happens there that takes longer to see."""
COUNT = """
import logging
class _Counting(logging.Handler):
    count = 0
    def emit(self, record):
        type(self).count += 1
logging.getLogger("httpx").setLevel(logging.INFO)
logging.getLogger("httpx").addHandler(_Counting())
logging.getLogger("httpx").propagate = False
"""
SEND = f"""
from bacalhau_magic import submit
jobs = [submit("import time; print('begins', flush=True); time.sleep(300)", cpu=0.1, memory="64MB", timeout="10m") for n in range({JOBS})]
"""


def watched(kernel: Kernel, seconds: float) -> tuple[float, float, float]:
    """The kernel process' CPU (share of a core), the median answer to `1 + 1` (ms), requests a second."""
    process = psutil.Process(kernel.manager.provisioner.pid)
    before = int(kernel.run("_Counting.count").value or 0)
    used, began, answers = process.cpu_times(), time.monotonic(), []
    while time.monotonic() - began < seconds:
        sent = time.monotonic()
        assert kernel.run("1 + 1").value == "2"
        answers.append((time.monotonic() - sent) * 1000)
        time.sleep(0.25)
    after, took = process.cpu_times(), time.monotonic() - began
    requests = int(kernel.run("_Counting.count").value or 0) - before
    return (after.user + after.system - used.user - used.system) / took, statistics.median(answers), requests / took


def test_a_hundred_jobs_watched(report: Callable[[str], None]) -> None:
    """100 background jobs on one card, of which the node runs some and holds the rest."""
    kernel = start(live=True)
    try:
        kernel.run(COUNT)
        kernel.run("%%bacalhau -q\n1")
        cpu, answer, _ = watched(kernel, QUIET)
        began = time.monotonic()
        sent = kernel.run(SEND, timeout=100)
        assert sent.error is None, sent.text
        sending = time.monotonic() - began
        kernel.until(lambda card: card.get("title") == f"{JOBS} jobs" and card["facts"].count("running"))
        time.sleep(5)
        many_cpu, many_answer, requests = watched(kernel, SECONDS)
        report(
            f"{JOBS} jobs sent in {sending:.1f} s; watched for {SECONDS:g} s: kernel {many_cpu:.1%} of a core, none: {cpu:.1%}, ratio {many_cpu / max(cpu, 1e-3):.1f};"
            f" 1 + 1: {many_answer:.0f} ms, none: {answer:.0f} ms, ratio {many_answer / answer:.2f}; {requests:.1f} requests a second"
        )
    finally:
        # Until the node has stopped them all: what is left there would hold its CPUs in every later test.
        kernel.run("for job in jobs: job.cancel()\nfor job in jobs: job.error", timeout=100)
        kernel.stop()
