"""`embed` in this process: completeness, resume, refusals, failures. Engines are compared in test_embed_ray."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq
import pytest

from fcvideo.errors import InputError, ModelError, OutputError
from tests.jobs.embedding import assert_same_tables, run, videos_of
from tests.jobs.readers import (
    BrokenReader,
    LateKilledReader,
    LoggingReader,
    PoisonedPlanner,
    PoisonedReader,
    ShortSegments,
    opened_segments,
)

MakeVideo = Callable[..., Path]


@pytest.fixture
def video(tmp_path: Path, make_video: MakeVideo) -> Path:
    """Three segments of a LoggingReader, no face."""
    return make_video(tmp_path / "three.mp4", num_frames=60, rate=20, gop=20)


def pts_seconds_by_pyav(video: Path) -> list[float]:
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        return sorted(float(frame.pts * frame.time_base) for frame in container.decode(stream))


def test_every_frame_is_accounted_for_and_faces_have_codes(tmp_path: Path, model: Path, media: Path):
    out = tmp_path / "e.parquet"
    summary = run(media / "pyfeat_single_face.mp4", media / "in_student.mkv", out=out, model=model, fps=2)
    table = pq.read_table(out)
    assert summary["exit_code"] == 0
    assert summary["frames"] == len(set(zip(table["video"].to_pylist(), table["frame_index"].to_pylist(), strict=True)))
    faces = table.filter(table["face_index"].is_valid())
    assert faces.num_rows == summary["faces"] > 0
    assert faces["status"].unique().to_pylist() == ["ok"]
    for name in ("expression", "identity", "cycle_error", "landmarks", "crop", "track_id", "x", "score"):
        assert faces[name].null_count == 0, name
    codes = np.stack(faces["identity"].to_numpy())
    assert codes.shape[1] == 256
    assert np.ptp(codes, axis=0).max() > 0
    assert not (tmp_path / "e.parquet.parts").exists()


def test_times_are_the_containers(tmp_path: Path, model: Path, make_video: MakeVideo):
    video = make_video(tmp_path / "variable.mp4", pts=[500, 533, 600, 640, 1000, 1001, 2500, 2540])
    run(video, out=tmp_path / "e.parquet", model=model, reader=LoggingReader)
    table = pq.read_table(tmp_path / "e.parquet")
    np.testing.assert_allclose(table["pts_seconds"].to_numpy(), pts_seconds_by_pyav(video), atol=1e-6)
    assert table["frame_index"].to_pylist() == list(range(8))
    assert table["status"].unique().to_pylist() == ["no_face"]


def test_undecodable_frames_have_rows_of_their_own(tmp_path: Path, model: Path, media: Path):
    damaged = media / "hostile" / "corrupt_mid_block.mp4"
    summary = run(damaged, out=tmp_path / "e.parquet", model=model, cycle_error=False)
    table = pq.read_table(tmp_path / "e.parquet")
    assert "decode_error" in table["status"].to_pylist()
    assert summary["exit_code"] == 0
    row = videos_of(tmp_path / "e.parquet")[damaged.name]
    assert row["status"] == "damaged"
    assert row["num_frames_decoded"] < row["num_frames_sampled"] == summary["frames"]
    assert table["cycle_error"].null_count == table.num_rows


def test_the_same_command_again_does_nothing(tmp_path: Path, model: Path, video: Path):
    out = tmp_path / "e.parquet"
    first = run(video, out=out, model=model, reader=LoggingReader)
    written = out.stat().st_mtime_ns
    second = run(video, out=out, model=model, reader=LoggingReader)
    assert out.stat().st_mtime_ns == written
    assert opened_segments(video) == [0, 1, 2]
    assert {k: v for k, v in first.items() if k != "seconds"} == {k: v for k, v in second.items() if k != "seconds"}
    assert not (tmp_path / "e.parquet.parts").exists()


def test_a_restart_skips_finished_segments(tmp_path: Path, model: Path, video: Path, monkeypatch: pytest.MonkeyPatch):
    out = tmp_path / "e.parquet"
    with monkeypatch.context() as patch:
        patch.setattr("fcvideo.tables.result.Result.write", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(video, out=out, model=model, reader=LoggingReader)
    (part,) = (tmp_path / "e.parquet.parts").rglob("00001-*.parquet")
    part.unlink()
    run(video, out=out, model=model, reader=LoggingReader)
    assert opened_segments(video) == [0, 1, 1, 2]
    assert pq.read_table(out)["frame_index"].to_pylist() == list(range(60))


def interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_a_new_video_is_added_without_reading_the_others_again(
    tmp_path: Path, model: Path, video: Path, make_video: MakeVideo
):
    out, folder = tmp_path / "e.parquet", tmp_path / "videos"
    folder.mkdir()
    first = Path(shutil.move(video, folder / "b.mp4"))
    run(folder, out=out, model=model, reader=LoggingReader)
    make_video(folder / "a.mp4", num_frames=5)
    summary = run(folder, out=out, model=model, reader=LoggingReader)
    assert opened_segments(first) == [0, 1, 2]
    assert summary["frames"] == 65
    assert pq.read_table(out)["video"].to_pylist() == ["a.mp4"] * 5 + ["b.mp4"] * 60


def test_a_changed_video_is_read_again(tmp_path: Path, model: Path, video: Path, make_video: MakeVideo):
    out = tmp_path / "e.parquet"
    run(video, out=out, model=model)
    make_video(video, num_frames=7)
    assert run(video, out=out, model=model)["frames"] == 7
    assert pq.read_table(out).num_rows == 7


def raw_video(path: Path, num_frames: int = 40) -> Path:
    """Uncompressed, so that an edit leaves the size as it is; fingerprints sample 64 KB of every 300."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("rawvideo", rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for pts in range(num_frames):
            frame = av.VideoFrame.from_ndarray(np.full((360, 320), pts, np.uint8), "yuv420p")
            frame.pts = pts
            container.mux(stream.encode(frame))
    return path


def test_an_edit_between_the_fingerprints_samples_is_seen(tmp_path: Path, model: Path):
    out, video = tmp_path / "e.parquet", raw_video(tmp_path / "raw.avi")
    run(video, out=out, model=model, reader=LoggingReader)
    before = videos_of(out)["raw.avi"]
    data = bytearray(video.read_bytes())
    start = (len(data) - (1 << 16)) // 15 + (1 << 16) + 10_000  # behind the second sample
    data[start : start + 100_000] = bytes(100_000)
    video.write_bytes(data)
    run(video, out=out, model=model, reader=LoggingReader)
    after = videos_of(out)["raw.avi"]
    assert opened_segments(video) == [0, 0]
    assert after["video_id"] == before["video_id"]
    assert after["content_hash"] != before["content_hash"]


def test_a_copy_with_another_date_is_the_same_video(tmp_path: Path, model: Path, video: Path):
    out = tmp_path / "e.parquet"
    run(video, out=out, model=model, reader=LoggingReader)
    os.utime(video, (1, 1))
    run(video, out=out, model=model, reader=LoggingReader)
    assert opened_segments(video) == [0, 1, 2]


def test_a_table_of_an_earlier_version_goes_on(tmp_path: Path, model: Path, video: Path):
    out = tmp_path / "e.parquet"
    run(video, out=out, model=model, reader=LoggingReader)
    videos = tmp_path / "e.videos.parquet"
    pq.write_table(pq.read_table(videos).drop_columns(["modified_seconds", "content_hash"]), videos)
    os.utime(video, (1, 1))
    run(video, out=out, model=model, reader=LoggingReader)
    assert opened_segments(video) == [0, 1, 2]


def test_other_settings_or_another_model_are_refused(tmp_path: Path, model: Path, video: Path):
    out = tmp_path / "e.parquet"
    run(video, out=out, model=model, fps=5)
    with pytest.raises(OutputError, match=r"fps 5, not 10.*--overwrite"):
        run(video, out=out, model=model, fps=10)
    other = tmp_path / "model"
    shutil.copytree(model, other)
    config = (other / "config.json").read_text()
    (other / "config.json").write_text(config + " ")
    with pytest.raises(OutputError, match="model_hash"):
        run(video, out=out, model=other, fps=5)
    assert run(video, out=out, model=model, fps=10, overwrite=True)["frames"] == 30


def test_an_interrupted_overwrite_goes_on_without_the_flag(
    tmp_path: Path, model: Path, video: Path, monkeypatch: pytest.MonkeyPatch
):
    out = tmp_path / "e.parquet"
    run(video, out=out, model=model, fps=5)
    with monkeypatch.context() as patch:
        patch.setattr("fcvideo.tables.result.Result.write", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(video, out=out, model=model, fps=10, overwrite=True, reader=LoggingReader)
    assert run(video, out=out, model=model, fps=10, reader=LoggingReader)["frames"] == 30
    assert opened_segments(video) == [0, 1, 2]


def test_a_killed_overwrite_goes_on_when_it_comes_again_and_permits_nothing_to_others(
    tmp_path: Path, model: Path, video: Path, make_video: MakeVideo, monkeypatch: pytest.MonkeyPatch
):
    """As a scheduler does that runs the same command once more."""
    out = tmp_path / "e.parquet"
    a, c = make_video(tmp_path / "a.mp4", num_frames=5), make_video(tmp_path / "c.mp4", num_frames=7)
    run(a, video, out=out, model=model)
    with monkeypatch.context() as patch:
        patch.setattr("fcvideo.tables.result.Result.write", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(a, video, out=out, model=model, overwrite=True, reader=LoggingReader)
    for others in ((a,), (c,), (a, c)):
        with pytest.raises(OutputError, match="not among these inputs"):
            run(*others, out=out, model=model)
    assert run(video, a, out=out, model=model, overwrite=True, reader=LoggingReader)["frames"] == 65
    assert opened_segments(video) == [0, 1, 2]
    with pytest.raises(OutputError, match="not among these inputs"):
        run(c, out=out, model=model)
    assert run(a, c, video, out=out, model=model)["frames"] == 72


def test_videos_that_are_not_named_again_are_not_dropped(
    tmp_path: Path, model: Path, video: Path, make_video: MakeVideo
):
    out = tmp_path / "e.parquet"
    other = make_video(tmp_path / "other.mp4", num_frames=5)
    run(video, other, out=out, model=model)
    with pytest.raises(OutputError, match=r"not among these inputs, such as .*other\.mp4"):
        run(video, out=out, model=model)


def test_a_poisoned_video_ends_as_crashed_and_the_others_are_done(
    tmp_path: Path, model: Path, video: Path, make_video: MakeVideo
):
    out = tmp_path / "e.parquet"
    poison = make_video(tmp_path / "poison.mp4", num_frames=10)
    half = make_video(tmp_path / "half.mp4", num_frames=60, rate=20, gop=20)
    summary = run(poison, video, half, out=out, model=model, reader=PoisonedReader, workers=2)
    rows = videos_of(out)
    assert (summary["exit_code"], summary["failed"]) == (3, 2)
    assert [rows[name]["status"] for name in ("poison.mp4", "three.mp4", "half.mp4")] == ["crashed", "ok", "crashed"]
    assert "SIGSEGV" in rows["poison.mp4"]["error"]
    assert "segment 2 of 3" in rows["half.mp4"]["error"]
    frames = pq.read_table(out, filters=[("video", "==", str(half))])["frame_index"].to_pylist()
    assert frames == [*range(20), *range(40, 60)]
    assert opened_segments(poison) == [0, 0]
    assert run(poison, video, half, out=out, model=model, reader=PoisonedReader)["exit_code"] == 3
    assert opened_segments(poison) == [0, 0]


def test_a_lack_of_memory_keeps_the_rows_before_it_and_is_tried_again(
    tmp_path: Path, model: Path, make_video: MakeVideo
):
    out, video = tmp_path / "e.parquet", make_video(tmp_path / "long.mp4", num_frames=400, gop=100)
    scarce = tmp_path / "long.mp4.scarce"
    scarce.touch()
    summary = run(video, out=out, model=model, reader=LateKilledReader)
    assert (summary["exit_code"], summary["failed"], summary["frames"]) == (3, 1, 256)  # a whole chunk
    (row,) = videos_of(out).values()
    assert row["status"] == "error"
    assert "no memory left?" in row["error"]
    scarce.unlink()
    assert run(video, out=out, model=model, reader=LateKilledReader)["frames"] == 400


def test_videos_that_failed_for_good_are_tried_again_when_told(
    tmp_path: Path, model: Path, video: Path, make_video: MakeVideo
):
    out, poison = tmp_path / "e.parquet", make_video(tmp_path / "poison.mp4", num_frames=10)
    assert run(poison, video, out=out, model=model, reader=PoisonedReader)["failed"] == 1
    assert run(poison, video, out=out, model=model, retry="errors")["failed"] == 1
    assert run(poison, video, out=out, model=model, retry="failed")["failed"] == 0
    assert opened_segments(video) == [0, 1, 2]


def test_a_video_that_kills_the_planner_ends_as_crashed(tmp_path: Path, model: Path, video: Path):
    poison = Path(shutil.copy(video, tmp_path / "poison.mp4"))
    summary = run(poison, video, out=tmp_path / "e.parquet", model=model, reader=PoisonedPlanner)
    assert (summary["exit_code"], summary["frames"]) == (3, 60)
    assert videos_of(tmp_path / "e.parquet")["poison.mp4"]["status"] == "crashed"


def test_an_error_in_a_segment_keeps_the_rows_before_it(tmp_path: Path, model: Path, video: Path):
    summary = run(video, out=tmp_path / "e.parquet", model=model, reader=BrokenReader)
    assert (summary["exit_code"], summary["frames"]) == (3, 50)
    row = videos_of(tmp_path / "e.parquet")["three.mp4"]
    assert (row["status"], row["error"]) == ("error", "ZeroDivisionError: in the decoder")


def test_what_is_no_video_has_its_own_status(tmp_path: Path, model: Path, video: Path, media: Path):
    inputs = [media / "hostile" / name for name in ("audio_only.mp4", "text.mp4", "zero_bytes.mp4")]
    summary = run(*inputs, video, out=tmp_path / "e.parquet", model=model)
    assert (summary["exit_code"], summary["failed"], summary["frames"]) == (3, 3, 60)
    statuses = {name: row["status"] for name, row in videos_of(tmp_path / "e.parquet").items()}
    expected = {"audio_only.mp4": "no_video", "text.mp4": "not_media", "zero_bytes.mp4": "not_media", "three.mp4": "ok"}
    assert statuses == expected


def test_when_all_inputs_fail_there_is_still_a_table(tmp_path: Path, model: Path, media: Path):
    summary = run(media / "hostile" / "text.mp4", out=tmp_path / "e.parquet", model=model)
    assert summary["exit_code"] == 3
    assert pq.read_table(tmp_path / "e.parquet").num_rows == 0


def test_a_dry_run_writes_nothing(tmp_path: Path, model: Path, video: Path):
    summary = run(video, out=tmp_path / "e.parquet", model=model, dry_run=True, reader=LoggingReader)
    assert summary["segments"] == 3
    assert summary["engine"] == "local"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["three.mp4"]


def test_limit_takes_the_first_inputs(tmp_path: Path, model: Path, video: Path, make_video: MakeVideo):
    other = make_video(tmp_path / "other.mp4", num_frames=5)
    summary = run(other, video, out=tmp_path / "e.parquet", model=model, limit=1)
    assert (summary["videos"], summary["frames"]) == (1, 5)


def test_a_folder_holds_a_file_per_video(tmp_path: Path, model: Path, video: Path, make_video: MakeVideo):
    other = make_video(tmp_path / "other.mp4", num_frames=5)
    run(video, out=f"{tmp_path}/out/", model=model)
    run(video, other, out=f"{tmp_path}/out/", model=model)
    assert len(list((tmp_path / "out").iterdir())) == 2
    assert pq.read_table(tmp_path / "out").num_rows == 65
    assert pq.read_table(tmp_path / "out.videos.parquet").num_rows == 2


def test_rows_do_not_depend_on_segments_and_workers(tmp_path: Path, model: Path, media: Path):
    video = media / "carphone.mp4"
    run(video, out=tmp_path / "one.parquet", model=model, fps=3)
    run(video, out=tmp_path / "many.parquet", model=model, fps=3, reader=ShortSegments, workers=3)
    one, many = (pq.read_table(tmp_path / f"{name}.parquet") for name in ("one", "many"))
    assert_same_tables(many, one, code_tolerance=1e-5)


def test_mistakes_are_told_before_anything_is_written(tmp_path: Path, model: Path, video: Path):
    with pytest.raises(InputError):
        run(tmp_path / "missing.mp4", out=tmp_path / "e.parquet", model=model)
    with pytest.raises(ModelError):
        run(video, out=tmp_path / "e.parquet", model=tmp_path / "missing")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["three.mp4"]


def test_a_name_that_is_not_utf8_is_written_with_escapes(tmp_path: Path, model: Path, video: Path, media: Path):
    odd = Path(shutil.copy(video, os.fsdecode(os.fsencode(tmp_path / "a") + b"\xff.mp4")))
    broken = Path(shutil.copy(media / "hostile" / "text.mp4", os.fsdecode(os.fsencode(tmp_path / "b") + b"\xff.mp4")))
    summary = run(odd, broken, out=tmp_path / "e.parquet", model=model)
    assert (summary["frames"], summary["failed"]) == (60, 1)
    assert sorted(videos_of(tmp_path / "e.parquet")) == ["a\\udcff.mp4", "b\\udcff.mp4"]


def test_a_file_that_was_cut_off_is_damaged_and_says_how_much_is_missing(
    media: Path, model: Path, tmp_path: Path
) -> None:
    video = media / "hostile" / "trunc_faststart.mp4"
    summary = run(video, out=tmp_path / "e.parquet", model=model, fps=5)
    assert (summary["damaged"], summary["failed"], summary["exit_code"]) == (1, 0, 0)
    (row,) = videos_of(tmp_path / "e.parquet").values()
    assert row["status"] == "damaged"
    assert row["error"] == "found 98 of the 180 frames that its header promises (cut off?)"


def test_a_table_of_crops_is_not_taken_for_a_video(crops_file: Path, model: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found a table, expected a video"):
        run(crops_file, out=tmp_path / "e.parquet", model=model)


def test_an_out_of_another_kind_is_refused(media: Path, model: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"found the suffix \.csv, expected \.parquet"):
        run(media / "carphone.mp4", out=tmp_path / "e.csv", model=model)
