"""What a run says of a clock that starts far away, of subtitles and of chapters; and that they come through it."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.packet import Packet

from tests.jobs.rendering import run_frontalize, times_of
from tests.video.test_captions import HEADER, chapters_of, lines_of

SAMPLE = Path(__file__).parents[2] / "examples" / "astronaut.mp4"
MS = Fraction(1, 1000)
START_SECONDS = 1_700_000_000


def far_away(path: Path) -> Path:
    """The sample's packets on a live recording's clock, with a line, a picture of letters, and two chapters."""
    with av.open(str(SAMPLE)) as source, av.open(str(path), "w") as container:
        video = container.add_stream_from_template(source.streams.video[0])
        lines = [container.add_stream(codec) for codec in ("srt", "dvdsub")]
        for stream in lines:
            stream.codec_context.subtitle_header = HEADER.encode()
            stream.codec_context.time_base = stream.time_base = MS
        times = [(1000 * START_SECONDS + 1000 * i, 1000 * START_SECONDS + 1000 * (i + 1)) for i in range(2)]
        container.set_chapters(
            [
                {"id": i, "start": a, "end": b, "time_base": MS, "metadata": {"title": f"{i}"}}
                for i, (a, b) in enumerate(times)
            ]
        )
        for packet in source.demux(video=0):
            if packet.size:
                moved = round(START_SECONDS / packet.time_base)
                packet.pts, packet.dts, packet.stream = packet.pts + moved, packet.dts + moved, video
                container.mux(packet)
        for stream in lines:
            packet = Packet(b"Hello")
            packet.pts = packet.dts = 1000 * START_SECONDS + 500
            packet.duration, packet.time_base, packet.stream = 1000, MS, stream
            container.mux(packet)
    return path


def test_a_far_clock_and_captions_are_told(tmp_path: Path, tiny_model: Path):
    path, out = far_away(tmp_path / "a.mkv"), tmp_path / "whole.mp4"
    summary = run_frontalize(path, model=tiny_model, out=str(out))
    assert (summary["exit_code"], summary["subtitles"], summary["chapters"]) == (0, 1, 2)
    assert summary["shifted_seconds"] == {"whole.mp4": -START_SECONDS}
    assert summary["left_out"] == {"whole.mp4": ["subtitles dvdsub"]}
    np.testing.assert_allclose(times_of(out), np.array(times_of(path)) - START_SECONDS, atol=1e-6)
    assert lines_of(out) == [(500, 1500, "Hello")]
    assert chapters_of(out) == [(0, 1000, "0"), (1000, 2000, "1")]


def test_an_excerpt_has_its_own_captions(tmp_path: Path, tiny_model: Path):
    path, out = far_away(tmp_path / "a.mkv"), tmp_path / "part.mp4"
    summary = run_frontalize(
        path, model=tiny_model, out=str(out), start=START_SECONDS + 1.0, duration=0.6, audio="none"
    )
    assert (summary["exit_code"], summary["subtitles"], summary["chapters"]) == (0, 1, 1)
    assert summary["shifted_seconds"] == {}  # as every excerpt, it starts at 0
    assert lines_of(out) == [(0, 500, "Hello")]
    ((start, end, title),) = chapters_of(out)
    assert (start, title) == (0, "1")
    assert abs(end - 600) <= 40
