"""Runs a command and watches it with all its descendants: wall time, CPU time, peak memory. Linux only."""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

SAMPLE_SECONDS = 0.4
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Run:
    seconds: float
    cpu_seconds: float
    peak_bytes: int
    output: str


def run_watched(command: Sequence[str], environment: dict[str, str] | None = None) -> Run:
    """Errors: SystemExit with the end of stderr, if the command fails."""
    with tempfile.TemporaryFile("w+") as errors:
        started = time.monotonic()
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, env=os.environ | (environment or {})
        )
        watch = _Watch(process.pid)
        output, _ = process.communicate()
        seconds = time.monotonic() - started
        watch.stop()
        if process.returncode:
            errors.seek(0)
            raise SystemExit(f"{' '.join(command)}\nended with {process.returncode}:\n{errors.read()[-3000:]}")
    return Run(seconds, watch.cpu_seconds, watch.peak_bytes, output)


class _Watch:
    """Samples a tree until `stop`. Memory is each process's proportional share, so that what is shared counts once."""

    def __init__(self, root: int) -> None:
        self.peak_bytes = 0
        self._root = root
        self._cpu_seconds: dict[int, float] = {}
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def cpu_seconds(self) -> float:
        return sum(self._cpu_seconds.values())

    def stop(self) -> None:
        self._is_over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._is_over.wait(SAMPLE_SECONDS):
            total = 0
            for pid, cpu_seconds in _tree(self._root).items():
                self._cpu_seconds[pid] = cpu_seconds
                total += _share_bytes(pid)
            self.peak_bytes = max(self.peak_bytes, total)


def _tree(root: int) -> dict[int, float]:
    """The root and all its descendants, with the CPU seconds of each."""
    parents, cpu_seconds = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                parents[int(entry.name)] = int(fields[1])
                cpu_seconds[int(entry.name)] = (int(fields[11]) + int(fields[12])) / _TICKS
    inside = {root}
    while more := {pid for pid, parent in parents.items() if parent in inside} - inside:
        inside |= more
    return {pid: cpu_seconds[pid] for pid in inside if pid in cpu_seconds}


def _share_bytes(pid: int) -> int:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0
