"""Motion plans of rows made by hand: who is shown, in which code, and which frames a segment has."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from fcvideo.errors import InputError, VideoError
from fcvideo.models.store import load_model
from fcvideo.rendering.motion_plan import MotionPlan, Wish, plan_motion
from fcvideo.rendering.portrait import PortraitPainter, motion_size
from fcvideo.tables.schema import FaceColumns, embeddings_table
from fcvideo.tables.seen_faces import Rows

NUM_FRAMES, CODE_DIM = 60, 256
PLAIN = Wish(face=None, at=None, smooth_seconds=0.0, has_codes=False, is_relative=False)


def make_rows(times: np.ndarray, frames: np.ndarray, xs: np.ndarray, codes: np.ndarray | None = None) -> Rows:
    """Faces of 50 x 50 pixels at `xs` on `frames`, in parts of 16 frames as a survey writes them; frame 5 is lost."""
    if codes is None:
        codes = np.zeros((len(frames), CODE_DIM), np.float32)
    is_decoded = np.arange(len(times)) != 5
    parts = []
    for start in range(0, len(times), 16):
        own = (frames >= start) & (frames < start + 16)
        boxes = np.stack([xs[own], np.full(own.sum(), 20), np.full(own.sum(), 50), np.full(own.sum(), 50)], axis=1)
        nothing = np.zeros((own.sum(), 5, 2), np.float32), np.zeros((own.sum(), 2, 3))
        faces = FaceColumns(frames[own] - start, boxes, np.ones(own.sum()), *nothing, codes[own], codes[own], None)
        part = slice(start, start + 16)
        index = np.arange(len(times))[part]
        parts.append(embeddings_table("v", "id", index, times[part], is_decoded[part], faces))

    def rows(columns: list[str]) -> Iterable[pa.Table]:
        return (part.select(columns) for part in parts)

    return rows


def two_people() -> tuple[Rows, np.ndarray]:
    """One on every frame but the lost one, the other on the first half."""
    seen = np.delete(np.arange(NUM_FRAMES), 5)
    frames = np.sort(np.concatenate([seen, seen[seen < 30]]), kind="stable")
    is_second = np.concatenate([[False], frames[1:] == frames[:-1]])
    return make_rows(np.arange(NUM_FRAMES) / 25, frames, np.where(is_second, 300, 100)), is_second.astype(np.int32)


def test_the_main_face_is_shown_and_the_others_are_counted(tmp_path: Path):
    rows, tracks = two_people()
    found = plan_motion(rows, tracks, PLAIN, tmp_path / "motion", None)
    plan = MotionPlan.load(tmp_path / "motion")
    assert found.num_others == (tracks == 1).sum()
    np.testing.assert_array_equal(plan.shown, np.arange(NUM_FRAMES))  # the lost frame is bridged
    np.testing.assert_allclose(plan.boxes, [[100, 20, 50, 50]] * NUM_FRAMES, atol=1e-3)
    assert plan.is_decoded.sum() == NUM_FRAMES - 1
    assert plan.codes is None
    assert plan.within(25, 50, Fraction(1, 25)) == slice(25, 50)
    assert plan.within(None, 3, Fraction(1, 25)) == slice(0, 3)


def test_a_face_may_be_named(tmp_path: Path):
    rows, tracks = two_people()
    plan_motion(rows, tracks, Wish(1, None, 0.0, False, False), tmp_path / "motion", None)
    plan = MotionPlan.load(tmp_path / "motion")
    assert plan.boxes[0, 0] == pytest.approx(300)
    assert plan.shown[-1] == 29
    assert plan.presence[-1] == 0
    with pytest.raises(InputError, match="--face 2: found tracks 0 to 1"):
        plan_motion(rows, tracks, Wish(2, None, 0.0, False, False), tmp_path / "motion", None)


def test_codes_fill_gaps_and_are_smoothed(tmp_path: Path):
    frames = np.delete(np.arange(NUM_FRAMES), [5, 20])
    codes = np.repeat(frames[:, None] / NUM_FRAMES, CODE_DIM, axis=1).astype(np.float32)
    rows = make_rows(np.arange(NUM_FRAMES) / 25, frames, np.full(len(frames), 100), codes)
    tracks = np.zeros(len(frames), np.int32)
    for seconds in (0.0, 0.2):
        plan_motion(rows, tracks, Wish(None, None, seconds, True, False), tmp_path / "motion", None)
        plan = MotionPlan.load(tmp_path / "motion")
        assert plan.codes is not None
        np.testing.assert_allclose(plan.codes[:, 7], np.arange(NUM_FRAMES) / NUM_FRAMES, atol=1e-5)


def test_the_most_neutral_frame_is_the_reference(tmp_path: Path, tiny_model: Path):
    codes = np.random.default_rng(0).normal(size=(NUM_FRAMES, CODE_DIM)).astype(np.float32)
    frames = np.arange(NUM_FRAMES)
    rows = make_rows(frames / 25, frames, np.full(NUM_FRAMES, 100), codes)
    painter = PortraitPainter(load_model(str(tiny_model)))
    wish = Wish(None, None, 0.0, False, True)
    found = plan_motion(rows, np.zeros(NUM_FRAMES, np.int32), wish, tmp_path / "motion", painter)
    sizes = motion_size(painter.motion(torch.from_numpy(codes)))
    np.testing.assert_array_equal(found.reference, codes[int(sizes.argmin())])


def test_a_clock_that_starts_again_breaks_nothing(tmp_path: Path):
    frames = np.arange(NUM_FRAMES)
    times = np.where(frames < 30, frames, frames - 30) / 25
    rows = make_rows(times, frames, np.full(NUM_FRAMES, 100))
    plan_motion(rows, np.zeros(NUM_FRAMES, np.int32), PLAIN, tmp_path / "motion", None)
    plan = MotionPlan.load(tmp_path / "motion")
    np.testing.assert_array_equal(plan.shown, frames)
    np.testing.assert_array_equal(plan.pts_seconds, times)


def test_a_source_without_a_face_is_refused(tmp_path: Path):
    rows = make_rows(np.arange(3) / 25, np.empty(0, np.int64), np.empty(0))
    with pytest.raises(VideoError, match="found no face in its 3 frames") as caught:
        plan_motion(rows, np.empty(0, np.int32), PLAIN, tmp_path / "motion", None)
    assert caught.value.status == "no_face"
