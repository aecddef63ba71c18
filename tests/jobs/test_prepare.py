"""From videos to a folder of clips: what is kept, what is counted, what a restart does again."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from fcvideo.clips.folder import ClipFolder
from fcvideo.clips.shards import read_clips
from fcvideo.clips.store import ClipStore
from fcvideo.config import PrepareSettings
from fcvideo.errors import InputError, OutputError
from fcvideo.jobs import prepare as job
from fcvideo.jobs.prepare import prepare

VIDEOS = ("carphone.mp4", "hamilton.mp4", "lp_d12.mp4")


@pytest.fixture(scope="module")
def videos(media: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for name in VIDEOS:
        (folder / name).symlink_to(media / name)
    return folder


def settings_for(videos: Path | str, out: Path, **changes: Any) -> PrepareSettings:
    return PrepareSettings(inputs=(str(videos),), out=str(out), progress="none", workers=1, **changes)


@pytest.fixture(scope="module")
def prepared(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A finished folder, not to be written to."""
    out = tmp_path_factory.mktemp("prepared") / "faces"
    return out, prepare(settings_for(videos, out))


def shard_bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("clips-*.parquet"))}


def test_every_video_gives_clips_of_its_faces(prepared: tuple[Path, dict[str, Any]]) -> None:
    out, summary = prepared
    store = ClipStore(out)
    assert summary["exit_code"] == 0
    assert (summary["videos"], summary["failed"]) == (3, 0)
    assert (summary["clips"], summary["clip_frames"]) == (len(store), store.num_frames)
    assert {clip.video for clip in read_clips(out / "clips-00000.parquet")} == set(VIDEOS)
    assert sorted(path.name for path in out.iterdir()) == ["clips-00000.parquet", "clips.videos.parquet"]


def test_clips_hold_crops_in_order_of_time(prepared: tuple[Path, dict[str, Any]]) -> None:
    for clip in read_clips(prepared[0] / "clips-00000.parquet"):
        assert len(clip.frames) == len(clip.pts_seconds) == len(clip.frame_index) == len(clip.boxes) >= 5
        assert np.median(clip.boxes[:, 3]) >= 48
        assert (np.diff(clip.pts_seconds) > 1 / 6 - 0.05).all()
        assert (np.diff(clip.frame_index) > 0).all()
        assert all(Image.open(io.BytesIO(jpeg)).size == (96, 96) for jpeg in clip.frames)


def test_the_framing_is_told_to_whoever_trains(prepared: tuple[Path, dict[str, Any]]) -> None:
    metadata = ClipStore(prepared[0]).metadata
    assert metadata["framing"] == {"side_factor": 1.45, "center": [0.5, 0.4]}
    assert metadata["crop_side"] == 96


def test_what_is_dropped_is_counted(media: Path, prepared: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    clips = [clip for clip in read_clips(prepared[0] / "clips-00000.parquet") if clip.video == "carphone.mp4"]
    tallest = max(float(np.median(clip.boxes[:, 3])) for clip in clips)
    video = media / "carphone.mp4"
    small = prepare(settings_for(video, tmp_path / "small", min_face=round(tallest) + 5))
    assert (small["clips"], small["tracks_too_small"]) == (0, len(clips))
    short = prepare(settings_for(video, tmp_path / "short", min_frames=1000))
    assert (short["clips"], short["tracks_too_short"]) == (0, short["tracks"])


def test_each_video_has_a_row_that_says_how_it_went(prepared: tuple[Path, dict[str, Any]]) -> None:
    rows = pq.read_table(prepared[0] / "clips.videos.parquet").to_pylist()
    assert [row["video"] for row in rows] == sorted(VIDEOS)
    assert all(row["status"] == "ok" and row["num_frames_sampled"] > 0 and row["width"] > 0 for row in rows)


def test_a_second_run_finds_nothing_to_do(
    videos: Path, prepared: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, summary = prepared
    before = shard_bytes(out)
    monkeypatch.setattr(job, "FaceCutter", None)  # any work would fail
    again = prepare(settings_for(videos, out))
    assert {**again, "seconds": 0} == {**summary, "seconds": 0}
    assert shard_bytes(out) == before


def test_other_settings_are_refused(videos: Path, prepared: tuple[Path, dict[str, Any]]) -> None:
    with pytest.raises(OutputError, match=r"was made with fps 6\.0, not 3\.0; --overwrite"):
        prepare(settings_for(videos, prepared[0], fps=3.0))


def test_overwrite_starts_anew(
    media: Path, prepared: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "faces"
    shutil.copytree(prepared[0], out)
    slower = settings_for(media / "lp_d12.mp4", out, fps=2.0, overwrite=True)
    with monkeypatch.context() as patch:
        patch.setattr("fcvideo.clips.folder.write_clips", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            prepare(slower)
    summary = prepare(slower)  # finds parts, and cuts anew all the same
    assert ClipStore(out).num_frames == summary["clip_frames"] < prepared[1]["clip_frames"]


def test_tables_that_are_not_prepares_are_refused(media: Path, prepared: tuple[Path, Any], tmp_path: Path) -> None:
    shutil.copy(prepared[0] / "clips-00000.parquet", tmp_path / "mine.parquet")
    for overwrite in (False, True):
        with pytest.raises(OutputError, match=r"mine\.parquet there is not prepare's"):
            prepare(settings_for(media / "lp_d12.mp4", tmp_path, overwrite=overwrite))
    (tmp_path / "mine.parquet").rename(tmp_path / "clips-00000.parquet")
    with pytest.raises(OutputError, match="has no record beside it"):
        prepare(settings_for(media / "lp_d12.mp4", tmp_path))
    assert (tmp_path / "clips-00000.parquet").exists()


def test_videos_that_come_later_are_added(videos: Path, prepared: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    grown, out = tmp_path / "videos", tmp_path / "faces"
    grown.mkdir()
    for name in VIDEOS[1:]:
        shutil.copy(videos / name, grown / name)
    prepare(settings_for(grown, out))
    first = shard_bytes(out)
    shutil.copy(videos / VIDEOS[0], grown / VIDEOS[0])
    summary = prepare(settings_for(grown, out))
    assert summary["clips"] == prepared[1]["clips"] == len(ClipStore(out))
    assert shard_bytes(out)["clips-00000.parquet"] == first["clips-00000.parquet"]
    assert len(shard_bytes(out)) == 2


def test_a_video_that_changed_after_it_was_cut_is_refused(media: Path, tmp_path: Path) -> None:
    video = tmp_path / "a.mp4"
    shutil.copy(media / "lp_d12.mp4", video)
    prepare(settings_for(video, tmp_path / "faces"))
    shutil.copy(media / "carphone.mp4", video)
    with pytest.raises(OutputError, match=r"a\.mp4 has changed since its faces were cut"):
        prepare(settings_for(video, tmp_path / "faces"))


def test_a_video_that_fails_is_recorded_and_the_others_go_on(media: Path, tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    shutil.copy(media / "lp_d12.mp4", videos / "good.mp4")
    (videos / "text.mp4").write_text("no video at all\n" * 100)
    summary = prepare(settings_for(videos, tmp_path / "faces"))
    assert (summary["videos"], summary["failed"], summary["exit_code"]) == (2, 1, 3)
    assert summary["clips"] > 0
    rows = {row["video"]: row for row in pq.read_table(tmp_path / "faces" / "clips.videos.parquet").to_pylist()}
    assert rows["text.mp4"]["status"] == "not_media"
    assert rows["text.mp4"]["error"]


def test_nothing_to_read_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found nothing there"):
        prepare(settings_for(tmp_path / "absent", tmp_path / "faces"))
    assert not (tmp_path / "faces").exists()


def test_a_dry_run_writes_nothing(videos: Path, tmp_path: Path) -> None:
    summary = prepare(settings_for(videos, tmp_path / "faces", dry_run=True))
    assert (summary["videos"], summary["to_do"]) == (3, 3)
    assert not (tmp_path / "faces").exists()


def test_killed_runs_go_on_and_end_in_the_same_shards(
    videos: Path, prepared: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    out = tmp_path / "faces"
    command = [sys.executable, "-m", "fcvideo", "prepare", str(videos), "--out", str(out), "--progress", "none"]
    num_parts = []
    for num_wanted in (1, 2):  # killed when so many videos are done
        process = subprocess.Popen([*command, "--workers", "1"], stdout=subprocess.DEVNULL, start_new_session=True)
        while len(list(out.glob(".parts/*/clips.parquet"))) < num_wanted and process.poll() is None:
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        num_parts.append(len(list(out.glob(".parts/*/clips.parquet"))))
    assert num_parts[0] < 3, "the run was over before it was killed"
    with pytest.raises(InputError, match="prepare has not finished here"):
        ClipStore(out)
    finished = subprocess.run([*command, "--workers", "1"], stdout=subprocess.PIPE, check=True)
    assert json.loads(finished.stdout)["clips"] == prepared[1]["clips"]
    assert shard_bytes(out) == shard_bytes(prepared[0])


def test_a_run_killed_between_shards_and_record_leaves_no_clip_twice(
    videos: Path, prepared: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    settings = settings_for(videos, tmp_path / "faces")
    with monkeypatch.context() as patch:
        patch.setattr("fcvideo.clips.folder.pq.write_table", die)  # the record of videos
        with pytest.raises(KeyboardInterrupt):
            prepare(settings)
    prepare(settings)
    assert shard_bytes(tmp_path / "faces") == shard_bytes(prepared[0])

    with monkeypatch.context() as patch:
        patch.setattr("fcvideo.tables.parts.Parts.remove", die)
        with pytest.raises(KeyboardInterrupt):
            prepare(dataclasses.replace(settings, overwrite=True))
    prepare(settings)
    assert shard_bytes(tmp_path / "faces") == shard_bytes(prepared[0])


def test_a_run_that_looked_before_another_had_finished_keeps_its_shards(
    videos: Path, prepared: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    out = tmp_path / "faces"
    settings = settings_for(videos, out)
    early = ClipFolder(out, job._identity(settings), "other inputs", overwrite=False)
    assert early.record(VIDEOS[0]) is None
    prepare(settings)
    early.claim()
    try:
        assert early.record(VIDEOS[0]) is not None
        early.finish()
    finally:
        early.release()
    assert shard_bytes(out) == shard_bytes(prepared[0])
    assert len(ClipStore(out)) == prepared[1]["clips"]


@pytest.mark.usefixtures("shared_ray")
def test_ray_gives_the_same_shards(
    videos: Path, prepared: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "SMALL_PLAN_BYTES", 0)
    settings = dataclasses.replace(settings_for(videos, tmp_path / "faces"), workers=2)
    assert prepare(settings)["clips"] == prepared[1]["clips"]
    assert shard_bytes(tmp_path / "faces") == shard_bytes(prepared[0])


def test_a_table_of_ready_crops_becomes_clips(crops_file: Path, tmp_path: Path) -> None:
    summary = prepare(settings_for(crops_file, tmp_path / "faces", min_frames=4))
    made, given = ClipStore(tmp_path / "faces"), ClipStore(crops_file)
    assert (summary["clips"], summary["clip_frames"], summary["exit_code"]) == (12, 48, 0)
    assert [made.frames(clip) for clip in range(12)] == [given.frames(clip) for clip in range(12)]
    assert len(np.unique(made.persons)) == len(np.unique(given.persons)) == 6
    assert prepare(settings_for(crops_file, tmp_path / "longer", min_frames=5))["tracks_too_short"] == 12


def test_ready_crops_of_another_side_are_resized(crops_file: Path, tmp_path: Path) -> None:
    prepare(settings_for(crops_file, tmp_path / "faces", min_frames=2, crop_side=64))
    jpeg = ClipStore(tmp_path / "faces").frames(0)[0]
    assert Image.open(io.BytesIO(jpeg)).size == (64, 64)


def test_a_table_of_something_else_is_recorded(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1]}), tmp_path / "odd.parquet")
    assert prepare(settings_for(tmp_path / "odd.parquet", tmp_path / "faces"))["exit_code"] == 3
    (row,) = pq.read_table(tmp_path / "faces" / "clips.videos.parquet").to_pylist()
    assert row["status"] == "error"
    assert "odd.parquet" in row["error"]


def test_a_name_that_is_not_text_and_an_edit_of_the_same_size(tmp_path: Path, make_video: Callable[..., Path]) -> None:
    folder, out = tmp_path / "videos", tmp_path / "faces"
    folder.mkdir()
    odd = Path(os.fsdecode(bytes(folder) + b"/\xff.mp4"))
    make_video(folder / "odd.mp4", num_frames=10).rename(odd)
    large = make_video(folder / "large.mp4", num_frames=10)
    with large.open("ab") as file:  # bytes behind the video, which are sampled, too
        file.write(bytes(4 << 20))
    assert prepare(settings_for(folder, out))["exit_code"] == 0
    assert prepare(settings_for(folder, out, dry_run=True))["to_do"] == 0
    with large.open("r+b") as file:
        file.seek((4 << 20) // 15 * 2 + 100_000)
        file.write(b"edited")
    os.utime(odd, (1, 1))
    assert prepare(settings_for(folder, out, dry_run=True))["to_do"] == 1
    videos = pq.read_table(out / "clips.videos.parquet")["video"].to_pylist()
    assert sorted(videos) == ["\\udcff.mp4", "large.mp4"]
