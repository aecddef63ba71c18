"""Real processes that really die: who is blamed, what is kept, and what is tried again."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fcvideo.errors import OutputError, ResourceError, VideoError
from fcvideo.running import worker_process
from fcvideo.running.worker_process import WorkerProcess
from tests.running.workers import LateStarter, Worker


@pytest.fixture
def process() -> Iterator[WorkerProcess]:
    process = WorkerProcess(Worker)
    yield process
    process.close()


def ask(process: WorkerProcess, method: str, *arguments: object) -> list[object]:
    return list(process.ask(method, arguments, lambda _: None))


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGSEGV])
def test_answers_before_a_death_are_given_once(process: WorkerProcess, tmp_path: Path, by: int):
    assert ask(process, "count", 6, 3, by, tmp_path / "marks", 1) == list(range(6))


def test_a_decoder_that_dies_twice_is_the_videos_fault(process: WorkerProcess, tmp_path: Path):
    with pytest.raises(VideoError, match=r"killed the process 2 times \(SIGSEGV\)") as caught:
        ask(process, "count", 6, 0, signal.SIGSEGV, tmp_path / "marks", 2)
    assert caught.value.status == "crashed"
    assert ask(process, "count", 2, 9, 0, tmp_path / "marks", 0) == [0, 1]


def test_memory_that_lacks_is_the_machines_fault(process: WorkerProcess, tmp_path: Path):
    """No decoder sends SIGKILL: the video is worth another try, and the line says what helps."""
    answers = process.ask("count", (6, 2, signal.SIGKILL, tmp_path / "marks", 2), lambda _: None)
    assert [next(answers), next(answers)] == [0, 1]
    with pytest.raises(VideoError, match=r"the machine ended the process.*fewer --workers") as caught:
        next(answers)
    assert caught.value.status == "error"


def test_after_a_lack_of_memory_attempts_are_made_one_at_a_time(tmp_path: Path):
    processes = [WorkerProcess(Worker) for _ in range(3)]
    log = tmp_path / "log"
    threads = [
        threading.Thread(target=ask, args=(process, "alone", tmp_path / f"marks{number}", log))
        for number, process in enumerate(processes)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for process in processes:
        process.close()
    assert log.read_text() == "+-" * 3


def test_a_process_that_dies_while_it_starts_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(worker_process, "START_PAUSE_SECONDS", 0.01)
    process = WorkerProcess(LateStarter, tmp_path / "marks", 2)
    try:
        assert ask(process, "count", 3, 9, 0, tmp_path / "other", 0) == [0, 1, 2]
    finally:
        process.close()


def test_a_process_that_never_starts_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(worker_process, "START_PAUSE_SECONDS", 0.01)
    process = WorkerProcess(LateStarter, tmp_path / "marks", 99)
    try:
        with pytest.raises(ResourceError, match=r"SIGKILL, 3 times\), expected memory.*fewer --workers"):
            ask(process, "stumble")
    finally:
        process.close()


def test_a_full_disk_is_told_as_such_at_once(process: WorkerProcess, tmp_path: Path):
    with pytest.raises(OutputError, match=r"target\.npz: cannot be written \(No space left on device\)"):
        ask(process, "fill", tmp_path / "target.npz")


def test_an_error_that_nobody_expected_is_the_files_and_kills_nothing(process: WorkerProcess):
    with pytest.raises(VideoError, match="ZeroDivisionError: by a frame's rate") as caught:
        ask(process, "stumble")
    assert caught.value.status == "error"
