"""Workers that the machine or a file does something to. They live here, where a process can import them."""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


def times(marks: Path) -> int:
    """How often this was called for `marks`."""
    with marks.open("a") as file:
        file.write("x")
    return len(marks.read_text())


class Worker:
    tick: Callable[[Any], None]

    def count(self, num: int, killed_at: int, by: int, marks: Path, num_deaths: int) -> Iterator[int]:
        """The numbers below `num`; dies before `killed_at`, the first `num_deaths` times."""
        is_doomed = times(marks) <= num_deaths
        for number in range(num):
            if is_doomed and number == killed_at:
                time.sleep(0.05)  # what was sent is on its way
                os.kill(os.getpid(), by)
            yield number

    def alone(self, marks: Path, log: Path) -> str:
        """Is killed once; then says in `log` when it is at work."""
        if times(marks) == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        with log.open("a") as file:
            file.write("+")
        time.sleep(0.3)
        with log.open("a") as file:
            file.write("-")
        return "done"

    def fill(self, path: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    def stumble(self) -> None:
        raise ZeroDivisionError("by a frame's rate")


class LateStarter(Worker):
    """Does not come up the first `num_failures` times."""

    def __init__(self, marks: Path, num_failures: int) -> None:
        if times(marks) <= num_failures:
            os.kill(os.getpid(), signal.SIGKILL)
