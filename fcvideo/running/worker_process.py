"""Workers in processes of their own, so that a video that kills a decoder kills nothing else.

A process that dies over a video is started again once; dying twice makes the video `crashed`. Whoever kills the whole
run from outside kills the witness too, so that an interrupted video is never blamed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from queue import Empty, Full, Queue
from typing import Any, Generic, Self, TypeVar

from fcvideo.errors import FcvideoError, VideoError

ATTEMPTS = 2
SILENCE_SECONDS = 1800.0  # without a tick or an answer, after which a process counts as dead
TICK_SECONDS = 0.5
_CODE = (
    "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); "
    "from fcvideo.running.worker_process import serve; serve({})"
)


class WorkerProcess:
    """One process with a worker, `worker(*arguments)`; `ask` calls its methods, and answers even if it dies.

    A worker's `tick` is set to a function that it calls with how far it is; the asker hears of it now and then.
    """

    def __init__(self, worker: Callable[..., Any], *arguments: Any) -> None:
        self._worker, self._arguments = worker, arguments
        self._is_closed = False
        self._start()

    def _start(self) -> None:
        self._connection, theirs = Pipe()
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)  # noqa: PTH109
        environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CODE.format(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            env=environment,
        )
        theirs.close()
        self._connection.send((self._worker, self._arguments))
        self._is_ready = False

    def close(self) -> None:
        """Ends the process; a thread that waits for its answers gets no more of them."""
        self._is_closed = True
        self._process.kill()
        self._process.wait()

    def ask(self, method: str, arguments: tuple[Any, ...], tick: Callable[[Any], None]) -> Iterator[Any]:
        """The answers, each once, however many attempts it takes.

        Errors: VideoError `crashed`, and the FcvideoError that the method raises.
        """
        num_given, cause = 0, ""
        for attempt in range(ATTEMPTS):
            if attempt:
                self._start()
            self._wait_until_ready()
            try:
                for position, answer in enumerate(self._answers(method, arguments, tick)):
                    if position >= num_given:
                        num_given += 1
                        yield answer
                return
            except _DeathError as death:
                if self._is_closed:
                    return
                cause = str(death)
                self._process.kill()
                self._process.wait()
                self._connection.close()
        self._start()
        raise VideoError("crashed", f"reading it killed the process {ATTEMPTS} times ({cause})")

    def _wait_until_ready(self) -> None:
        """A process that cannot even begin is no video's fault."""
        if not self._is_ready:
            try:
                assert self._connection.recv() == "ready"
            except (EOFError, ConnectionError):
                raise RuntimeError(f"a worker's process did not start (exit {self._process.wait()})") from None
            self._is_ready = True

    def _answers(self, method: str, arguments: tuple[Any, ...], tick: Callable[[Any], None]) -> Iterator[Any]:
        try:
            self._connection.send((method, arguments))
            while True:
                if not self._connection.poll(SILENCE_SECONDS):
                    raise _DeathError(f"no sign of life for {SILENCE_SECONDS:.0f} s")
                kind, value = self._connection.recv()
                if kind == "end":
                    return
                if kind == "error":
                    raise value
                if kind == "tick":
                    tick(value)
                else:
                    yield value
        except (EOFError, ConnectionError):
            raise _DeathError(_cause(self._process.wait())) from None


class _DeathError(Exception):
    """The process died; the text says how."""


def _cause(return_code: int) -> str:
    if return_code >= 0:
        return f"exit {return_code}"
    with suppress(ValueError):
        return signal.Signals(-return_code).name
    return f"signal {-return_code}"


def serve(descriptor: int) -> None:
    """The process's own loop: ends when the other side is gone."""
    connection = Connection(descriptor)
    with suppress(EOFError, ConnectionError):
        worker_class, arguments = connection.recv()
        worker = worker_class(*arguments)
        worker.tick = _Ticker(connection)
        connection.send("ready")
        while True:
            method, arguments = connection.recv()
            connection.send(_call(connection, getattr(worker, method), arguments))


def _call(connection: Connection, method: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[str, Any]:
    """Sends what the method gives, or each of several things; gives how that ended."""
    try:
        given = method(*arguments)
        for answer in given if isinstance(given, Iterator) else (given,):
            connection.send(("answer", answer))
    except FcvideoError as error:
        return "error", error
    return "end", None


class _Ticker:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._last = time.monotonic()

    def __call__(self, value: Any) -> None:
        if time.monotonic() - self._last >= TICK_SECONDS:
            self._last = time.monotonic()
            self._connection.send(("tick", value))


Process = TypeVar("Process", bound=WorkerProcess)


class WorkerPool(Generic[Process]):
    """Several processes, fed from one list of work; results come as they are ready, a bounded number ahead.

    `start(number)` starts one. The first starts at once, so that its imports run beside the caller's; the others when
    there is work for them.
    """

    def __init__(self, start: Callable[[int], Process], size: int) -> None:
        self._start_one, self._size = start, size
        self._processes = [start(0)]
        self._threads: list[threading.Thread] = []
        self._stop = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._stop.set()
        for process in self._processes:
            process.close()
        for thread in self._threads:
            thread.join()

    def spread(self, work: Sequence[Any], call: Callable[[Process, Any], Iterator[Any]]) -> Iterator[Any]:
        """What `call(process, item)` gives for all items, in the order in which it becomes ready."""
        while len(self._processes) < min(self._size, len(work)):
            self._processes.append(self._start_one(len(self._processes)))
        waiting: Queue[Any] = Queue()
        for item in work:
            waiting.put(item)
        results: Queue[tuple[str, Any]] = Queue(maxsize=len(self._processes) + 1)
        stop = self._stop = threading.Event()

        def put(kind: str, value: Any) -> None:
            while not stop.is_set():
                with suppress(Full):
                    results.put((kind, value), timeout=0.5)
                    return

        def run(process: Process) -> None:
            try:
                while not stop.is_set():
                    for result in call(process, waiting.get_nowait()):
                        put("result", result)
            except Empty:
                put("end", None)
            except BaseException as error:  # raised again where the results are taken
                put("error", error)

        self._threads = [threading.Thread(target=run, args=(p,), daemon=True) for p in self._processes]
        for thread in self._threads:
            thread.start()
        return _taken(results, len(self._threads), stop)


def _taken(results: Queue[tuple[str, Any]], num_running: int, stop: threading.Event) -> Iterator[Any]:
    try:
        while num_running:
            kind, value = results.get()
            if kind == "error":
                raise value
            if kind == "end":
                num_running -= 1
            else:
                yield value
    finally:
        stop.set()
