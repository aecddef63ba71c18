"""How far a job is, on stderr: a bar for people, plain lines for logs, JSON lines for programs, or nothing."""

from __future__ import annotations

import json
import sys
import time
from abc import ABC, abstractmethod
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from fcvideo.config import Progress

if TYPE_CHECKING:
    from rich.console import Console

BAR_WIDTH = 62  # of phase, bar, percentage and time left
PLAIN_SECONDS, JSON_SECONDS = 10.0, 1.0  # between two lines


class Display(Protocol):
    def begin(self, phase: str, total: float) -> None: ...

    def update(self, done: float, counts: dict[str, Any]) -> None: ...

    def end(self) -> None: ...

    def say(self, text: str) -> None: ...


class Reporter:
    """Phases one after the other, each from 0 to its total; `say` for whole lines in between.

    Counts are shown as they are named: `frames=120` is `frames 120`.
    """

    def __init__(self, mode: Progress) -> None:
        self._display = _display(mode)
        self._is_open = False

    def __enter__(self) -> Reporter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.end()

    def begin(self, phase: str, total: float) -> None:
        self.end()
        self._is_open = True
        self._display.begin(phase, total)

    def update(self, done: float, **counts: Any) -> None:
        """`done` is the sum so far, in the unit of the phase's total."""
        self._display.update(done, counts)

    def end(self) -> None:
        if self._is_open:
            self._display.end()
            self._is_open = False

    def say(self, text: str) -> None:
        self._display.say(text)


def _display(mode: Progress) -> Display:
    if mode == "auto":
        return Bar() if sys.stderr.isatty() else PlainLines()
    if mode == "plain":
        return PlainLines()
    return JsonLines() if mode == "jsonl" else Silence()


def describe(counts: dict[str, Any]) -> str:
    parts = (f"{name.replace('_', ' ')} {_number(value)}" for name, value in counts.items())
    return ", ".join(parts)


def _number(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.3g}" if abs(value) < 100 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


class Silence:
    def begin(self, phase: str, total: float) -> None:
        pass

    def update(self, done: float, counts: dict[str, Any]) -> None:
        pass

    def end(self) -> None:
        pass

    def say(self, text: str) -> None:
        pass


class Bar:
    """A bar that redraws itself, with the time left."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console: Console = Console(stderr=True)

    def begin(self, phase: str, total: float) -> None:
        from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        self._progress = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[counts]}"),
            console=self._console,
        )
        self._task = self._progress.add_task(phase, total=total or None, counts="")
        self._progress.start()

    def update(self, done: float, counts: dict[str, Any]) -> None:
        self._progress.update(self._task, completed=done, counts=self._fitting(counts))

    def _fitting(self, counts: dict[str, Any]) -> str:
        """As many counts as leave room for the bar."""
        shown = dict(counts)
        while shown and len(describe(shown)) > max(20, self._console.width - BAR_WIDTH):
            shown.popitem()
        return describe(shown)

    def end(self) -> None:
        self._progress.stop()

    def say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


class Lines(ABC):
    """One line every few seconds, and one at the end of a phase."""

    seconds_between: float

    def begin(self, phase: str, total: float) -> None:
        self._phase, self._total, self._done = phase, total, 0.0
        self._counts: dict[str, Any] = {}
        self._started = self._last = time.monotonic()

    def update(self, done: float, counts: dict[str, Any]) -> None:
        self._done, self._counts = done, counts
        if time.monotonic() - self._last >= self.seconds_between:
            self._last = time.monotonic()
            self._write()

    def end(self) -> None:
        self._write()

    @abstractmethod
    def _write(self) -> None:
        """Tells how far the phase is."""

    def _fraction(self) -> float:
        return min(1.0, self._done / self._total) if self._total else 1.0


class PlainLines(Lines):
    seconds_between = PLAIN_SECONDS

    def _write(self) -> None:
        counts = describe(self._counts)
        self.say(f"{self._phase}: {self._fraction():.0%}" + (f", {counts}" if counts else ""))

    def say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


class JsonLines(Lines):
    seconds_between = JSON_SECONDS

    def _write(self) -> None:
        elapsed = round(time.monotonic() - self._started, 3)
        self._print(
            event="progress", phase=self._phase, fraction=round(self._fraction(), 4), seconds=elapsed, **self._counts
        )

    def say(self, text: str) -> None:
        self._print(event="message", text=text)

    def _print(self, **values: Any) -> None:
        print(json.dumps(values), file=sys.stderr, flush=True)
