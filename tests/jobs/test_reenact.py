"""`reenact`: times, sound, segments, sources and targets of every kind, resume, refusals."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from fcvideo.assembly.task import Stages
from fcvideo.config import EmbedSettings
from fcvideo.errors import InputError, OutputError, SettingsError
from fcvideo.jobs.embed import embed
from fcvideo.video.provenance import read_mark
from tests.jobs.renderers import LoggingRenderer, SomeSegments, begun_segments
from tests.jobs.rendering import (
    NUM_FACES,
    NUM_FRAMES,
    counts,
    digests,
    faces_of,
    leftovers,
    pictures_of,
    run_reenact,
    sound_of,
    times_of,
    write_clip,
)

SEGMENTS = Stages(reader=SomeSegments)
LOGGED = Stages(reader=SomeSegments, renderer=LoggingRenderer)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory, media: Path) -> Path:
    """Seven segments of SomeSegments, of variable rate, with sound; its face comes late, and goes for a while."""
    return write_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", faces_of(media / "pyfeat_single_face.mp4", 72))


@pytest.fixture(scope="module")
def face(tmp_path_factory: pytest.TempPathFactory, media: Path) -> Path:
    path = tmp_path_factory.mktemp("faces") / "face.png"
    Image.fromarray(faces_of(media / "carphone.mp4", 1, (176, 144))[0]).save(path)
    return path


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, clip: Path, face: Path) -> Path:
    """Folder with one.mp4, of one segment, and many.mp4, of seven by two processes; and both summaries."""
    folder = tmp_path_factory.mktemp("rendered")
    same = {"lossless": True, "motion": "relative", "compose": "crop"}
    one = run_reenact(clip, face, tiny_model, out=str(folder / "one.mp4"), **same)
    many = run_reenact(clip, face, tiny_model, SEGMENTS, out=str(folder / "many.mp4"), workers=2, **same)
    (folder / "summaries.json").write_text(json.dumps([one, many]))
    return folder


def test_times_and_sound_are_the_sources(rendered: Path, clip: Path):
    for name in ("one.mp4", "many.mp4"):
        out = rendered / name
        np.testing.assert_allclose(times_of(out), times_of(clip), atol=1e-6)
        np.testing.assert_allclose(times_of(out, "audio"), times_of(clip, "audio"), atol=1e-6)
        assert sound_of(out) == sound_of(clip)
        assert "reenact with model" in (read_mark(out) or "")
    assert leftovers(rendered) == []


def test_segments_leave_no_trace(rendered: Path):
    assert digests(rendered / "one.mp4") == digests(rendered / "many.mp4")
    assert times_of(rendered / "one.mp4") == times_of(rendered / "many.mp4")


def test_every_frame_is_counted(rendered: Path):
    one, many = json.loads((rendered / "summaries.json").read_text())
    assert (one["exit_code"], one["sound"]) == (0, {"copied": 1})
    frames, faces, held, missing, lost = counts(one)
    assert (frames, faces, lost) == (NUM_FRAMES, NUM_FACES, 0)
    assert held + missing == NUM_FRAMES - NUM_FACES
    assert held > 0 < missing
    assert counts(one) == counts(many)


def test_a_face_that_is_away_is_held(rendered: Path):
    pictures = digests(rendered / "many.mp4")
    assert set(pictures[:12]) == {pictures[12]}
    assert set(pictures[36:60]) <= {pictures[35], pictures[60]}
    assert len(set(pictures[12:36])) > 16


def test_a_pasted_face_fades_while_it_is_away(tmp_path: Path, tiny_model: Path, clip: Path, face: Path):
    run_reenact(clip, face, tiny_model, out=str(tmp_path / "a.mp4"), lossless=True, duration=0.6)
    pasted, target = pictures_of(tmp_path / "a.mp4"), np.asarray(Image.open(face))
    np.testing.assert_array_equal(pasted[0], target)
    change = [float(np.abs(picture - target.astype(float)).mean()) for picture in pasted]
    assert 0 < change[7] < change[11] < change[12]


def test_a_stretch_begins_at_zero(tmp_path: Path, tiny_model: Path, clip: Path, face: Path):
    out = tmp_path / "a.mp4"
    settings = {"start": 1.0, "duration": 0.6, "smooth_codes": 0.2}
    run_reenact(clip, face, tiny_model, SEGMENTS, out=str(out), **settings)
    wanted = [time for time in times_of(clip) if 1.0 <= time < 1.6]
    np.testing.assert_allclose(times_of(out), np.array(wanted) - wanted[0], atol=1e-6)
    assert sound_of(out)
    assert len(sound_of(out)) < len(sound_of(clip))


def test_damaged_frames_repeat_the_picture_before(tmp_path: Path, tiny_model: Path, media: Path, face: Path):
    damaged = media / "hostile" / "corrupt_mid_block.mp4"
    window = {"start": 1.6, "duration": 2.0, "lossless": True, "audio": "none"}
    one = run_reenact(damaged, face, tiny_model, out=str(tmp_path / "one.mp4"), **window)
    many = run_reenact(damaged, face, tiny_model, SEGMENTS, out=str(tmp_path / "many.mp4"), workers=2, **window)
    assert counts(one) == counts(many)
    assert one["lost"] > 0
    assert digests(tmp_path / "one.mp4") == digests(tmp_path / "many.mp4")
    assert one["sound"] == {"none": 1}
    with av.open(str(tmp_path / "one.mp4")) as container:
        assert len(container.streams.audio) == 0


def test_images_give_images(tmp_path: Path, tiny_model: Path, face: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(face, "a.png")
    summary = run_reenact("a.png", face, tiny_model, compose="panel")
    assert counts(summary) == (1, 1, 0, 0, 0)
    before = Path("a-face.png").read_bytes()
    assert Image.open("a-face.png").width > 64
    assert "reenact" in (read_mark(Path("a-face.png")) or "")
    # another picture under the same name is rendered anew
    Image.open(face).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save("a.png")
    run_reenact("a.png", face, tiny_model, compose="panel")
    assert Path("a-face.png").read_bytes() != before


def test_a_table_drives_a_face(tmp_path: Path, tiny_model: Path, clip: Path, face: Path):
    table = tmp_path / "e.parquet"
    embed(EmbedSettings(inputs=(str(clip),), out=str(table), model=str(tiny_model), gpus=0, progress="none", workers=1))
    out = tmp_path / "a.mp4"
    summary = run_reenact(table, face, tiny_model, out=str(out))
    assert summary["frames"] == NUM_FRAMES
    assert summary["faces"] == NUM_FACES
    np.testing.assert_allclose(times_of(out), times_of(clip), atol=1e-6)
    other = tmp_path / "model"
    shutil.copytree(tiny_model, other)
    (other / "config.json").write_text((other / "config.json").read_text() + " ")
    with pytest.raises(InputError, match=r"codes are of the model .*, not of --model"):
        run_reenact(table, face, other, out=str(tmp_path / "b.mp4"))


def test_pairs_name_files(tmp_path: Path, tiny_model: Path, face: Path):
    for name in ("s1", "s2"):
        shutil.copy(face, tmp_path / f"{name}.png")
    (tmp_path / "targets").mkdir()
    for name in ("t1", "t2"):
        shutil.copy(face, tmp_path / "targets" / f"{name}.png")
    Image.new("RGB", (100, 100)).save(tmp_path / "targets" / "empty.png")
    pairs = tmp_path / "pairs.csv"
    pairs.write_text(f"source,target\ns1.png,t2.png\n{tmp_path / 's2.png'},t1.png\ns1.png,empty.png\n")
    sources, out = [tmp_path / "s1.png", tmp_path / "s2.png"], tmp_path / "out"
    summary = run_reenact(sources, tmp_path / "targets", tiny_model, pairs=str(pairs), out=str(out))
    assert (summary["exit_code"], summary["outputs"], summary["failed"]) == (3, 2, 1)
    assert sorted(path.name for path in out.glob("*.png")) == ["s1-t2.png", "s2-t1.png"]
    record = json.loads((out / "renderings.json").read_text())["outputs"]
    assert record["s1-empty.png"]["status"] == "bad_target"
    pairs.write_text("source,target\ns1.png,t3.png\n")
    with pytest.raises(InputError, match=r"row 1: found 't3.png', expected a file of --target"):
        run_reenact(sources, tmp_path / "targets", tiny_model, pairs=str(pairs), out=str(out))


def test_the_same_command_again_does_nothing(tmp_path: Path, tiny_model: Path, clip: Path, face: Path):
    source, out = Path(shutil.copy(clip, tmp_path / "c.mp4")), tmp_path / "out"
    again = {"out": f"{out}/", "duration": 0.9}
    first = run_reenact(source, face, tiny_model, LOGGED, **again)
    (result,) = out.glob("*.mp4")
    written = result.stat().st_mtime_ns
    second = run_reenact(source, face, tiny_model, LOGGED, **again)
    assert begun_segments(source) == [0, 1, 2]
    assert result.stat().st_mtime_ns == written
    assert {k: v for k, v in first.items() if k != "seconds"} == {k: v for k, v in second.items() if k != "seconds"}
    with pytest.raises(OutputError, match=r"size 64, not 80.*--overwrite"):
        run_reenact(source, face, tiny_model, LOGGED, **again, size=80)
    result.write_bytes(b"")
    assert run_reenact(source, face, tiny_model, LOGGED, **again, overwrite=True)["frames"] == first["frames"]
    assert begun_segments(source) == [0, 0, 1, 1, 2, 2]
    assert len(times_of(result)) == first["frames"]


def test_wrong_input_is_told_in_one_line(tmp_path: Path, tiny_model: Path, clip: Path, face: Path):
    empty, out = tmp_path / "empty.png", str(tmp_path / "a.mp4")
    Image.new("RGB", (100, 100)).save(empty)
    foreign = Path(shutil.copy(face, tmp_path / "foreign.mp4"))
    source = Path(shutil.copy(clip, tmp_path / "s.mp4"))
    cases = [
        (clip, empty, {}, InputError, r"empty\.png: found no face, expected one"),
        (tmp_path / "nothing.mp4", face, {}, InputError, r"nothing\.mp4: found nothing there"),
        ([], face, {}, SettingsError, r"expected --source and --target"),
        (source, face, {"out": str(source)}, OutputError, r"s\.mp4: is an input and would be replaced"),
        (clip, face, {"out": str(foreign)}, OutputError, r"foreign\.mp4: is there already.*--overwrite"),
        (clip, face, {"out": "/proc/nowhere/a.mp4"}, OutputError, r"cannot be written"),
        (clip, face, {"out": str(tmp_path / "a.mkv")}, OutputError, r"found the suffix \.mkv, expected \.mp4"),
        ([clip, source], face, {}, OutputError, r"found a file's name for 2 results, expected a folder"),
        (clip, face, {"face": 7}, InputError, r"clip\.mp4: --face 7: found track 0 alone"),
        (clip, face, {"at": "left"}, SettingsError, r"at: found 'left', expected x,y"),
        (clip, face, {"codec": "av1", "lossless": True}, SettingsError, r"codec: found 'av1', expected a lossless"),
    ]
    for source_given, target, settings, error, message in cases:
        with pytest.raises(error, match=message) as caught:
            run_reenact(source_given, target, tiny_model, **({"out": out} | settings))
        assert "\n" not in str(caught.value)
        assert not Path(out).exists()


def test_a_dry_run_writes_nothing(tmp_path: Path, tiny_model: Path, clip: Path, face: Path):
    summary = run_reenact(clip, face, tiny_model, SEGMENTS, out=f"{tmp_path / 'out'}/", dry_run=True)
    assert (summary["to_do"], summary["segments"]) == (1, 7)
    assert not (tmp_path / "out").exists()
