"""Makes outputs whole: joins their segments with the source's sound, beside the rendering, in a process of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fcvideo.assembly.join_process import Finisher
from fcvideo.assembly.segment_plan import OrderPlan
from fcvideo.errors import VideoError
from fcvideo.faces.fit import Choice
from fcvideo.rendering.segment import Rendered
from fcvideo.running.worker_process import WorkerProcess
from fcvideo.survey.ledger import UNFAILED
from fcvideo.video.inputs import Source
from fcvideo.video.join import Joined
from fcvideo.video.provenance import Mark


class Finishing:
    """One output after the other. Targets are looked for in the same process, for they too are anyone's files."""

    def __init__(
        self, finisher: type[Finisher], mark: Mark, *, has_sound: bool, is_excerpt: bool, stack: ExitStack
    ) -> None:
        self._mark, self._has_sound, self._is_excerpt = mark, has_sound, is_excerpt
        self._thread = ThreadPoolExecutor(1)
        stack.callback(self._thread.shutdown, cancel_futures=True)
        self._process = WorkerProcess(finisher)
        stack.callback(self._process.close)  # first, so that the thread need not wait for it

    def find_target(
        self, source: Source, choice: Choice, model: str, min_face_px: int, score: float, path: Path
    ) -> str | None:
        """Writes the target's file; gives a line for the user, if any. Errors: InputError, VideoError."""
        arguments = source, choice, model, min_face_px, score, path
        (note,) = self._process.ask("find_target", arguments, lambda _: None)
        return note

    def submit(self, plan: OrderPlan, receipts: dict[int, Rendered]) -> Future[dict[str, Any]]:
        """The output's row, when its file is there. Errors, in the future: OutputError."""
        return self._thread.submit(self._finish, plan, receipts)

    def _finish(self, plan: OrderPlan, receipts: dict[int, Rendered]) -> dict[str, Any]:
        rendered = [receipts[piece.segment.index] for piece in plan.pieces]
        failure = next((receipt for receipt in rendered if receipt.status not in UNFAILED), None)
        if failure is not None:
            return {"status": failure.status, "error": failure.error}
        try:
            joined = self._join(plan)
        except VideoError as error:  # whatever it was, what is rendered waits for another try
            return {"status": "error", "error": f"its {len(rendered)} segments are kept, but not joined: {error}"}
        return {
            "status": "ok",
            "error": None,
            "frames": sum(receipt.num_frames for receipt in rendered),
            "faces": sum(receipt.num_faces for receipt in rendered),
            "held": sum(receipt.num_held for receipt in rendered),
            "missing": sum(receipt.num_missing for receipt in rendered),
            "lost": sum(receipt.num_lost for receipt in rendered),
            "others": plan.num_others,
            **({} if plan.coverage is None else asdict(plan.coverage)),
            **({} if joined is None else _told(joined)),
        }

    def _join(self, plan: OrderPlan) -> Joined | None:
        """None for a picture."""
        source, paths = plan.order.source, [piece.path for piece in plan.pieces]
        if source.is_image:
            paths[0].replace(plan.order.path)
            return None
        video = None if source.is_table else source.source
        arguments = paths, plan.order.path, video if self._has_sound else None, video, self._mark, self._is_excerpt
        (joined,) = self._process.ask("join", arguments, lambda _: None)
        return joined


UNJOINED: dict[str, Any] = {"sound": "none", "subtitles": 0, "chapters": 0, "left_out": [], "shifted_seconds": 0.0}


def _told(joined: Joined) -> dict[str, Any]:
    """For the output's row, whose values are `UNJOINED` without it."""
    return {
        "sound": joined.sound,
        "subtitles": joined.num_subtitles,
        "chapters": joined.num_chapters,
        "left_out": list(joined.left_out),
        "shifted_seconds": joined.shift_seconds,
    }


def joined_counts(rows: Sequence[Mapping[str, Any]], *, is_excerpt: bool) -> dict[str, Any]:
    """The same of all rows, for the summary; excerpts all start at 0."""
    moved = {row["output"]: row["shifted_seconds"] for row in rows if row["shifted_seconds"]}
    return {
        "sound": dict(Counter(row["sound"] for row in rows if row["status"] == "ok")),
        "subtitles": sum(row["subtitles"] for row in rows),
        "chapters": sum(row["chapters"] for row in rows),
        "left_out": {row["output"]: row["left_out"] for row in rows if row["left_out"]},
        "shifted_seconds": {} if is_excerpt else moved,
    }
