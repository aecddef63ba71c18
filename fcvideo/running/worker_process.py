"""Workers in processes of their own, so that a video that kills a decoder kills nothing else.

A process that dies over a video is started again once; dying twice makes the video `crashed`. Whoever kills the whole
run from outside kills the witness too, so that an interrupted video is never blamed; nor is one whose process got
SIGKILL, which no decoder sends: that is the machine's, out of memory, and the next run tries it again.

Not `pebble`'s pools: theirs give one answer to a call, all at its end, and no word in between. Ours stream answers with
a bounded number ahead, hear how far a worker is, and go on after a death with the answers that are still to come.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext, suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from queue import Empty, Full, Queue
from typing import Any, Generic, Self, TypeVar

from fcvideo.errors import FcvideoError, OutputError, ResourceError, VideoError, describe_error

ATTEMPTS, START_ATTEMPTS = 2, 3
START_PAUSE_SECONDS = 1.0  # before another process is started where one did not come up, longer every time
SILENCE_SECONDS = 1800.0  # without a tick or an answer, after which a process counts as dead
TICK_SECONDS = 0.5
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
_CODE = (
    "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); "
    "from fcvideo.running.worker_process import serve; serve({})"
)


OUT_OF_MEMORY = "SIGKILL"  # how a process ends that the machine has no memory for
_ALONE = threading.Lock()


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
        """The answers, each once, however many attempts it takes. After a lack of memory, one attempt at a time.

        Errors: VideoError `crashed`, or `error` for a lack of memory; the FcvideoError that the method raises;
        ResourceError where no process starts.
        """
        num_given, cause = 0, ""
        for attempt in range(ATTEMPTS):
            if attempt:
                self._start()
            with _ALONE if cause == OUT_OF_MEMORY else nullcontext():
                try:
                    self._wait_until_ready()
                    for position, answer in enumerate(self._answers(method, arguments, tick)):
                        if position >= num_given:
                            num_given += 1
                            yield answer
                    return
                except _DeathError as death:
                    if self._is_closed:
                        return
                    cause = str(death)
                    self._end()
        self._start()
        if cause == OUT_OF_MEMORY:
            raise VideoError(
                "error",
                f"the machine ended the process that read it, {ATTEMPTS} times ({cause}: no memory left?); "
                "the same command tries it again, and fewer --workers need less",
            )
        raise VideoError("crashed", f"reading it killed the process {ATTEMPTS} times ({cause})")

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._connection.close()

    def _wait_until_ready(self) -> None:
        """A process that cannot even begin is no video's fault. Errors: ResourceError; _DeathError of a closed one."""
        for attempt in range(1, START_ATTEMPTS + 1):
            if self._is_ready:
                return
            try:
                assert self._connection.recv() == "ready"
                self._is_ready = True
            except (EOFError, ConnectionError):
                cause = _cause(self._process.wait())
                if self._is_closed:
                    raise _DeathError(cause) from None
                if attempt == START_ATTEMPTS:
                    raise ResourceError(
                        f"found no way to start a worker's process ({cause}, {attempt} times), expected memory for one "
                        "more; go on with fewer --workers"
                    ) from None
                self._end()
                time.sleep(START_PAUSE_SECONDS * attempt)
                self._start()

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
    except Exception as error:
        return "error", _unexpected(error)
    return "end", None


def _unexpected(error: Exception) -> FcvideoError:
    if isinstance(error, OSError) and error.errno in _FULL:
        return OutputError(f"{error.filename or 'a result'}: cannot be written ({error.strerror})")
    return VideoError("error", describe_error(error))


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
