"""`frontalize` and `deidentify`: folders, names, pasting back, and what the runs share with `reenact`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcvideo.assembly.task import Stages
from fcvideo.errors import InputError, OutputError
from fcvideo.video.inputs import Source
from fcvideo.video.read import read_frames
from fcvideo.video.segments import plan_segments
from tests.jobs.renderers import SomeSegments
from tests.jobs.rendering import (
    ABSENT,
    digests,
    faces_of,
    has_sound,
    leftovers,
    pictures_of,
    run_deidentify,
    run_frontalize,
    sound_of,
    times_of,
    write_clip,
)

SEGMENTS = Stages(reader=SomeSegments)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory, media: Path) -> Path:
    return write_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", faces_of(media / "pyfeat_single_face.mp4", 72))


def test_pasted_segments_leave_no_trace(tmp_path: Path, tiny_model: Path, clip: Path):
    same = {"lossless": True, "compose": "paste", "duration": 1.6}
    one = run_frontalize(clip, model=tiny_model, out=str(tmp_path / "one.mp4"), **same)
    run_frontalize(clip, model=tiny_model, stages=SEGMENTS, out=str(tmp_path / "many.mp4"), workers=2, **same)
    assert digests(tmp_path / "one.mp4") == digests(tmp_path / "many.mp4")
    # where the face has faded, the picture is the source's own
    (segment,) = plan_segments(Source(str(clip), clip.name), duration_seconds=1.6)
    own = [frame.image for frame in read_frames(segment, is_exact=True)]
    made = pictures_of(tmp_path / "one.mp4")
    is_own = [np.array_equal(a, b) for a, b in zip(own, made, strict=True)]
    assert sum(is_own) == one["missing"] > 0
    assert not any(is_own[12:36])
    assert all(i in ABSENT[0] or i in ABSENT[1] for i in np.flatnonzero(is_own))


def test_folders_keep_their_shape(
    tmp_path: Path, tiny_model: Path, clip: Path, media: Path, make_video: Callable[..., Path]
):
    videos = tmp_path / "videos"
    (videos / "a").mkdir(parents=True)
    shutil.copy(clip, videos / "a" / "x.mov")
    shutil.copy(clip, videos / "a" / "x.mp4")
    Image.fromarray(faces_of(media / "carphone.mp4", 1, (176, 144))[0]).save(videos / "y.jpg")
    (videos / "text.mp4").write_text("no video")
    make_video(videos / "bars.mp4", num_frames=40)
    out = videos / "frontal"
    summary = run_frontalize(videos, model=tiny_model, out=f"{out}/", start=1.0, duration=0.2)
    assert (summary["exit_code"], summary["outputs"], summary["failed"]) == (3, 3, 2)
    written = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    assert written == ["a/x.mov.mp4", "a/x.mp4", "renderings.json", "y.jpg"]
    assert Image.open(out / "y.jpg").size == (64, 64)
    record = json.loads((out / "renderings.json").read_text())["outputs"]
    assert (record["text.mp4"]["status"], record["bars.mp4"]["status"]) == ("not_media", "no_face")
    # its own results are no inputs, and a new input is added to what is there
    shutil.copy(clip, videos / "z.mp4")
    again = run_frontalize(videos, model=tiny_model, out=f"{out}/", start=1.0, duration=0.2)
    assert (again["outputs"], again["failed"]) == (4, 2)
    assert leftovers(tmp_path) == []


def test_a_picture_size_that_changes_stays(tmp_path: Path, tiny_model: Path, media: Path):
    changing, face = media / "hostile" / "reschange.ts", tmp_path / "face.png"
    Image.fromarray(faces_of(media / "carphone.mp4", 1, (176, 144))[0]).save(face)
    out = tmp_path / "a.mp4"
    summary = run_deidentify(changing, model=tiny_model, identity=str(face), out=str(out), start=4.2, duration=1.0)
    assert (summary["exit_code"], summary["others"]) == (0, 0)
    pictures = pictures_of(out)
    assert {picture.shape for picture in pictures} == {(360, 640, 3)}
    assert len(times_of(out)) == summary["frames"] > 20


def test_deidentify_leaves_nobody_out(tmp_path: Path, tiny_model: Path, media: Path):
    own = faces_of(media / "pyfeat_single_face.mp4", 24)
    two = [np.concatenate([picture, picture[:, ::-1]], axis=1) for picture in own]
    clip = write_clip(tmp_path / "two.mp4", two, gop=6)
    same = {"model": tiny_model, "lossless": True, "start": 0.86, "duration": 0.6}
    everyone = run_deidentify(clip, out=str(tmp_path / "all.mp4"), **same)
    parts = run_deidentify(clip, stages=SEGMENTS, out=str(tmp_path / "parts.mp4"), **same)
    alone = run_deidentify(clip, out=str(tmp_path / "one.mp4"), face=0, **same)
    assert (everyone["others"], parts["others"], alone["others"] > 10) == (0, 0, True)
    assert digests(tmp_path / "all.mp4") == digests(tmp_path / "parts.mp4")
    (segment,) = plan_segments(Source(str(clip), clip.name), start_seconds=0.86, duration_seconds=0.6)
    for frame, whole, part in zip(
        read_frames(segment, is_exact=True),
        pictures_of(tmp_path / "all.mp4"),
        pictures_of(tmp_path / "one.mp4"),
        strict=True,
    ):
        assert frame.image is not None
        changed = [np.abs(made.astype(int) - frame.image).max(axis=(0, 2)) > 0 for made in (whole, part)]
        halves = [[bool(half.any()) for half in np.split(columns, 2)] for columns in changed]
        assert halves[0] == [True, True]
        assert sum(halves[1]) == 1


def test_tables_and_replaced_inputs_are_refused(tmp_path: Path, tiny_model: Path, make_video: Callable[..., Path]):
    video = make_video(tmp_path / "a.mp4", num_frames=3)
    (tmp_path / "e.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"e\.parquet: found a table"):
        run_frontalize(tmp_path / "e.parquet", model=tiny_model, out=f"{tmp_path / 'out'}/")
    with pytest.raises(OutputError, match=r"a\.mp4: is an input and would be replaced"):
        run_frontalize(video, model=tiny_model, out=str(video))


def test_times_and_sound_of_real_videos_stay(tmp_path: Path, tiny_model: Path, media: Path):
    names = ("pyfeat_single_face.mp4", "in_student.mkv", "hostile/vfr_h264.mp4", "hostile/odd_321x241_vp9.webm")
    sources = [media / name for name in names]
    summary = run_frontalize(*sources, model=tiny_model, out=f"{tmp_path}/", workers=2)
    assert (summary["exit_code"], summary["outputs"]) == (0, 4)
    for source in sources:
        out = tmp_path / f"{source.stem}.mp4"
        np.testing.assert_allclose(times_of(out), times_of(source), atol=1e-6, err_msg=source.name)
        if has_sound(source):
            assert sound_of(out) == sound_of(source), source.name
            np.testing.assert_allclose(times_of(out, "audio"), times_of(source, "audio"), atol=1e-6)
