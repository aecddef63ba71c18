"""Subtitles and chapters in joined files: text and times the source's own, cut and moved with the pictures."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import pytest
from av.packet import Packet

from fcvideo.video.join import Joined, join_segments
from tests.conftest import numbered_picture
from tests.video.rendering import MARK, read, source, write_parts

MS = Fraction(1, 1000)
Line = tuple[int, int, str]  # start and end in 1/1000 s
LINES: list[Line] = [(120, 900, "One"), (2000, 3000, "Two <i>and</i> a half"), (3400, 9000, "Grüße")]
CHAPTERS: list[Line] = [(0, 1500, "Begin"), (1500, 4000, "End")]
HEADER = (
    "[Script Info]\nScriptType: v4.00+\n\n[V4+ Styles]\nFormat: Name, Fontname, Fontsize\nStyle: Default,Arial,16\n\n"
    "[Events]\nFormat: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\n"
)


def make_captioned(
    path: Path,
    subtitles: Sequence[tuple[str, Sequence[Line]]],
    chapters: Sequence[Line] = (),
    start_ms: int = 0,
    seconds: float = 4.0,
) -> Path:
    """25 pictures a second; (codec, lines) of each stream of subtitles, all times after the start."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("h264", rate=25, options={"preset": "ultrafast"})
        video.width, video.height, video.codec_context.time_base = 64, 48, MS
        streams = []
        for codec, _ in subtitles:
            streams.append(container.add_stream(codec))
            streams[-1].codec_context.subtitle_header = HEADER.encode()
            streams[-1].codec_context.time_base = streams[-1].time_base = MS
            streams[-1].metadata["language"] = "deu"
        named = [{"id": i, "time_base": MS, "metadata": {"title": title}} for i, (_, _, title) in enumerate(chapters)]
        times = [{"start": start_ms + start, "end": start_ms + end} for start, end, _ in chapters]
        container.set_chapters([one | other for one, other in zip(named, times, strict=True)])
        made = []
        for i in range(int(25 * seconds)):
            picture = av.VideoFrame.from_ndarray(numbered_picture(i, (64, 48)), format="rgb24")
            picture.pts, picture.time_base = start_ms + 40 * i, MS
            made += video.encode(picture)
        made += video.encode(None)
        for stream, (_, lines) in zip(streams, subtitles, strict=True):
            for start, end, text in lines:
                packet = Packet(text.encode())
                packet.stream, packet.time_base = stream, MS
                packet.pts = packet.dts = start_ms + start
                packet.duration = end - start
                made.append(packet)
        for packet in sorted(made, key=lambda packet: packet.dts * packet.time_base):
            container.mux(packet)
    return path


def join(path: Path, out: Path, first: int = 0, end: int | None = None, is_excerpt: bool = False) -> Joined:
    frames, time_base = read(path)
    parts = write_parts(out.parent, frames[first:end], time_base, 2)
    return join_segments(parts, out, sound=None, captions=source(path), mark=MARK, is_excerpt=is_excerpt)


def lines_of(path: Path, index: int = 0) -> list[Line]:
    """What a stream of subtitles shows, without its styles."""
    lines = []
    with av.open(str(path)) as container:
        stream = container.streams.subtitles[index]
        assert stream.codec_context.name == "mov_text"
        for packet in container.demux(stream):
            for text in stream.decode(packet) if packet.size else []:
                start = packet.pts * packet.time_base
                end = start + packet.duration * packet.time_base
                plain = re.sub(r"\{[^}]*\}", "", text.dialogue.decode()).replace("\n", "|")
                if plain:
                    lines.append((round(start * 1000), round(end * 1000), plain))
    return lines


def chapters_of(path: Path) -> list[Line]:
    with av.open(str(path)) as container:
        return [
            (round(c["start"] * c["time_base"] * 1000), round(c["end"] * c["time_base"] * 1000), c["metadata"]["title"])
            for c in container.chapters()
        ]


def test_text_and_chapters_stay_where_they_are(tmp_path: Path) -> None:
    path, out = make_captioned(tmp_path / "a.mkv", [("srt", LINES)], CHAPTERS), tmp_path / "out.mp4"
    joined = join(path, out)
    assert (joined.num_frames, joined.num_subtitles, joined.num_chapters, joined.left_out) == (100, 1, 2, ())
    assert lines_of(out) == [(120, 900, "One"), (2000, 3000, "Two and a half"), (3400, 9000, "Grüße")]
    assert chapters_of(out) == CHAPTERS
    with av.open(str(out)) as container:
        assert container.streams.subtitles[0].metadata["language"] == "deu"
    # and from an mp4 again, with its styles
    again = join(out, tmp_path / "again.mp4")
    assert (again.num_subtitles, again.num_chapters) == (1, 2)
    assert lines_of(tmp_path / "again.mp4") == lines_of(out)
    with av.open(str(out)) as one, av.open(str(tmp_path / "again.mp4")) as other:
        styled = [[bytes(p) for p in c.demux(subtitles=0) if p.size > 20] for c in (one, other)]
    assert styled[0] == styled[1] != []


def test_an_excerpt_has_its_stretch_of_them(tmp_path: Path) -> None:
    path = make_captioned(tmp_path / "a.mkv", [("srt", LINES), ("srt", LINES[:1])], CHAPTERS, start_ms=200)
    out = tmp_path / "out.mp4"
    joined = join(path, out, first=25, end=90, is_excerpt=True)  # 1.0 to 3.6 s after the start
    assert joined.shift_seconds == pytest.approx(-1.2)
    assert (joined.num_subtitles, joined.num_chapters) == (1, 2)  # of the second stream nothing is left
    assert lines_of(out) == [(1000, 2000, "Two and a half"), (2400, 2600, "Grüße")]
    assert chapters_of(out) == [(0, 500, "Begin"), (500, 2600, "End")]


def test_lines_that_overlap_are_read_together(tmp_path: Path) -> None:
    lines = [(100, 2000, "a"), (500, 1000, "b"), (500, 1500, "c"), (3000, 3500, "d"), (3000, 3500, "d")]
    path, out = make_captioned(tmp_path / "a.mkv", [("srt", lines)]), tmp_path / "out.mp4"
    join(path, out)
    assert lines_of(out) == [
        *((100, 500, "a"), (500, 1000, "a|b|c"), (1000, 1500, "a|c"), (1500, 2000, "a"), (3000, 3500, "d|d")),
    ]


def test_ass_keeps_its_text_and_loses_its_drawings(tmp_path: Path) -> None:
    before = "0,Default,,0,0,0,,"
    events = [(0, 1000, rf"0,{before}Hi{{\b1}}, you\Nthere"), (1000, 2000, rf"1,{before}{{\p1}}m 0 0 l 9 9")]
    path, out = make_captioned(tmp_path / "a.mkv", [("ass", events)]), tmp_path / "out.mp4"
    join(path, out)
    assert lines_of(out) == [(0, 1000, "Hi, you|there")]


def test_pictures_of_letters_are_named(tmp_path: Path) -> None:
    path = make_captioned(tmp_path / "a.mkv", [("dvdsub", [(0, 1000, "no picture")]), ("srt", LINES[:1])])
    joined = join(path, tmp_path / "out.mp4")
    assert (joined.num_subtitles, joined.left_out) == (1, ("subtitles dvdsub (deu)",))
    assert lines_of(tmp_path / "out.mp4") == LINES[:1]


def test_subtitles_that_are_no_text_end_nothing(tmp_path: Path) -> None:
    path = make_captioned(tmp_path / "a.mkv", [("ass", [(0, 1000, "\x00,,,"), (1000, 2000, "")])])
    joined = join(path, tmp_path / "out.mp4")
    assert (joined.num_frames, joined.num_subtitles) == (100, 0)


@pytest.mark.parametrize(
    ("start_ms", "moved_seconds"), [(59_960, 0), (61_960, -61), (1_700_000_000_080, -1_700_000_000)]
)
def test_a_clock_that_starts_far_away_is_moved_by_whole_seconds(
    tmp_path: Path, start_ms: int, moved_seconds: int
) -> None:
    path = make_captioned(tmp_path / "a.mkv", [("srt", LINES)], CHAPTERS, start_ms=start_ms, seconds=1.0)
    out = tmp_path / "out.mp4"
    joined = join(path, out)
    assert joined.shift_seconds == moved_seconds
    first_ms = start_ms + 1000 * moved_seconds
    with av.open(str(out)) as container:
        times = [packet.pts * packet.time_base * 1000 for packet in container.demux(video=0) if packet.size]
    assert times == [first_ms + 40 * i for i in range(25)]
    assert [line[0] - first_ms for line in lines_of(out)] == [line[0] for line in LINES]
    assert chapters_of(out)[1][0] - first_ms == 1500
