"""`deidentify`: no face is seen. Clips are made of the sample's head: too large, dark, moving, cut by the border."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from fcvideo.assembly.task import Stages
from fcvideo.config import DeidentifySettings
from fcvideo.errors import OutputError, SettingsError
from fcvideo.faces.detect import FaceDetector
from fcvideo.jobs.deidentify import deidentify
from fcvideo.video.inputs import Source
from fcvideo.video.read import read_frames
from fcvideo.video.segments import plan_segments
from tests.jobs.renderers import SomeSegments
from tests.jobs.rendering import digests, pictures_of, run_deidentify

SAMPLE = Path(__file__).parents[2] / "examples" / "astronaut.mp4"
HEAD = 50, 0, 180, 190  # left, top, right, bottom of the head in the sample's first frames
NUM_FRAMES = 30
AWAY = range(10, 22)  # frames of a clip in which the head shows no face
CUT = 13  # which is no key frame
SHOTS = ("moving", "cut")


def sample(num: int) -> list[np.ndarray]:
    with av.open(str(SAMPLE)) as container:
        return [f.to_ndarray(format="rgb24") for _, f in zip(range(num), container.decode(video=0), strict=False)]


def scaled(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC))


def wall(height: int, width: int, seed: int = 0) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(90, 140, (height // 40, width // 40, 3)).astype(np.uint8)
    return scaled(coarse, width, height)


def with_head(picture: np.ndarray, head: np.ndarray, left: int, top: int) -> np.ndarray:
    """The head drawn into the picture, over whose border it may reach."""
    result, (height, width) = picture.copy(), head.shape[:2]
    x, y = max(left, 0), max(top, 0)
    right, bottom = min(left + width, picture.shape[1]), min(top + height, picture.shape[0])
    result[y:bottom, x:right] = head[y - top : bottom - top, x - left : right - left]
    return result


def turned_away(head: np.ndarray) -> np.ndarray:
    """All hair; rough, for what is flat is covered by what is as flat and as bright."""
    noise = np.random.default_rng(0).integers(-40, 40, head.shape[:2])[..., None]
    return (head[10:30, 50:80].mean(axis=(0, 1)) + noise).clip(0, 255).astype(np.uint8)


def write(path: Path, pictures: Sequence[np.ndarray]) -> Path:
    with av.open(str(path), "w") as container:
        video = container.add_stream("h264", rate=25, options={"preset": "ultrafast", "crf": "10"})
        video.height, video.width, _ = pictures[0].shape
        video.pix_fmt, video.codec_context.gop_size = "yuv420p", 10
        video.codec_context.time_base = Fraction(1, 25)
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    return path


def moving_left(number: int) -> int:
    return 20 + 6 * number


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the clips."""
    folder = tmp_path_factory.mktemp("clips")
    frames = sample(NUM_FRAMES)
    heads = [frame[HEAD[1] : HEAD[3], HEAD[0] : HEAD[2]] for frame in frames]
    room, empty = wall(240, 400), wall(240, 400, seed=1)
    write(folder / "large.mp4", [scaled(frame[64:142, 118:192], 640, 640) for frame in frames[:4]])
    write(folder / "dark.mp4", [(frame * 0.12).astype(np.uint8) for frame in frames[:6]])
    moving = [turned_away(head) if number in AWAY else head for number, head in enumerate(heads)]
    write(folder / "moving.mp4", [with_head(room, h, moving_left(i), 20) for i, h in enumerate(moving)])
    write(folder / "cut.mp4", [with_head(room, heads[i], 200, 20) if i < CUT else empty for i in range(NUM_FRAMES)])
    write(folder / "border.mp4", [with_head(room, heads[i], -58, 20) for i in range(12)])
    write(folder / "empty.mp4", [empty] * 12)
    return folder


def run(clips: Path, out: Path, model: Path, names: Sequence[str], **settings: Any) -> dict[str, Any]:
    inputs = [clips / f"{name}.mp4" for name in names]
    return run_deidentify(*inputs, model=model, out=f"{out}/", lossless=True, **settings)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, clips: Path) -> tuple[Path, dict[str, Any]]:
    """Clips in which every face is found."""
    out = tmp_path_factory.mktemp("done")
    return out, run(clips, out, tiny_model, ["large", "dark", "border", "empty"])


@pytest.fixture(scope="module")
def shots(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, clips: Path) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("shots")
    return out, run(clips, out, tiny_model, SHOTS)


def record(out: Path, name: str) -> dict[str, Any]:
    return json.loads((out / "renderings.json").read_text())["outputs"][f"{name}.mp4"]


def change(clips: Path, out: Path, name: str) -> list[np.ndarray]:
    """Per frame, by how much each pixel differs from the source's, int (H, W)."""
    path = clips / f"{name}.mp4"
    (segment,) = plan_segments(Source(str(path), name))
    pairs = zip(read_frames(segment, is_exact=True), pictures_of(out / f"{name}.mp4"), strict=True)
    return [np.abs(made.astype(int) - frame.image).max(axis=2) for frame, made in pairs]


def test_a_face_that_fills_the_picture_is_covered_in_every_frame(done: tuple[Path, dict], clips: Path):
    one_scale = FaceDetector(min_face_px=40)
    assert any(not len(faces) for faces in one_scale(pictures_of(clips / "large.mp4")))
    assert (record(done[0], "large")["faces_replaced"], record(done[0], "large")["frames_at_risk"]) == (4, 0)
    for changed in change(clips, done[0], "large"):
        assert (changed[130:460, 130:500] > 0).mean() > 0.9


def test_a_dark_face_is_covered(done: tuple[Path, dict], clips: Path):
    assert record(done[0], "dark")["faces_replaced"] == 6
    for changed in change(clips, done[0], "dark"):
        assert (changed[70:120, 130:180] > 0).mean() > 0.5


def test_a_face_that_the_border_cuts_is_covered(done: tuple[Path, dict], clips: Path):
    assert record(done[0], "border")["faces_replaced"] == 12
    for changed in change(clips, done[0], "border"):
        assert (changed[80:140, 2:40] > 0).mean() > 0.9


def test_a_video_without_anybody_comes_out_as_it_is(done: tuple[Path, dict], clips: Path):
    out, summary = done
    assert not any(changed.any() for changed in change(clips, out, "empty"))
    assert (record(out, "empty")["frames"], record(out, "empty")["faces_replaced"]) == (12, 0)
    assert (summary["exit_code"], summary["outputs"], summary["failed"], summary["at_risk"]) == (0, 4, 0, [])


def test_the_cover_moves_with_a_head_that_is_not_found(shots: tuple[Path, dict], clips: Path):
    assert record(shots[0], "moving")["frames_held"] == len(AWAY)
    for number, changed in enumerate(change(clips, shots[0], "moving")):
        left = moving_left(number) + 75
        assert (changed[90:145, left : left + 50] > 0).mean() > 0.9, number


def test_what_is_held_on_a_guess_is_told_with_its_times(shots: tuple[Path, dict]):
    out, summary = shots
    row = record(out, "moving")
    assert (row["faces_replaced"], row["frames_at_risk"]) == (NUM_FRAMES - len(AWAY), len(AWAY))
    assert row["at_risk"] == [[AWAY.start / 25, AWAY.stop / 25]]
    assert summary["at_risk"] == [("moving.mp4", AWAY.start / 25, AWAY.stop / 25)]
    assert (summary["exit_code"], summary["frames_at_risk"]) == (3, len(AWAY))


def test_nothing_is_held_across_a_cut(shots: tuple[Path, dict], clips: Path):
    row = record(shots[0], "cut")
    assert (row["faces_replaced"], row["frames_held"], row["frames_at_risk"]) == (CUT, 0, 0)
    changes = [bool(changed.any()) for changed in change(clips, shots[0], "cut")]
    assert changes == [True] * CUT + [False] * (NUM_FRAMES - CUT)


def test_segments_and_workers_leave_no_trace(tmp_path: Path, shots: tuple[Path, dict], clips: Path, tiny_model: Path):
    run(clips, tmp_path, tiny_model, SHOTS, workers=2, stages=Stages(reader=SomeSegments))
    for name in SHOTS:
        assert digests(tmp_path / f"{name}.mp4") == digests(shots[0] / f"{name}.mp4"), name
        assert record(tmp_path, name) == record(shots[0], name)


@pytest.mark.parametrize("mask", ["blur", "box"])
def test_other_masks_leave_nothing_of_a_face(tmp_path: Path, clips: Path, tiny_model: Path, mask: str):
    summary = run(clips, tmp_path, tiny_model, ["large"], mask=mask)
    assert (summary["exit_code"], summary["faces_replaced"]) == (0, 4)
    pictures = pictures_of(tmp_path / "large.mp4")
    assert not any(map(len, FaceDetector(min_face_px=40, score_threshold=0.5, scales="two")(pictures)))
    inner = pictures[0][130:460, 130:500].astype(int)
    assert np.abs(np.diff(inner, axis=1)).max() <= 6  # the real eyes' edges are steps of 30 and more
    assert (inner.max() < 24) == (mask == "box")


def test_masks_that_show_no_face_need_none(tmp_path: Path, clips: Path):
    for more, named in (({"identity": "a.png"}, "--identity"), ({"compose": "crop"}, "--compose crop")):
        with pytest.raises(SettingsError, match=f"--mask blur: found {named} too"):
            deidentify(DeidentifySettings(inputs=(str(clips),), out=str(tmp_path / "a"), mask="blur", **more))  # type: ignore[arg-type]


def test_another_mean_face_is_another_rendering(tmp_path: Path, clips: Path, tiny_model: Path):
    model, out = tmp_path / "model", tmp_path / "out"
    shutil.copytree(tiny_model, model)
    for brightness in (90, 90, 160):
        Image.new("RGB", (64, 64), (brightness,) * 3).save(model / "mean_face.png")
        if brightness == 90:
            assert run(clips, out, model, ["empty"])["exit_code"] == 0
    with pytest.raises(OutputError, match="made with mean_face"):
        run(clips, out, model, ["empty"])
