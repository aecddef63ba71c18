"""Plans how a video is cut into independently readable segments: one pass over its packets, nothing decoded.

A segment begins at a key frame before which no later-shown picture was decoded; so its frames are the same whether the
reader jumps there or comes from the beginning. A file whose packets do not bear that out is one segment.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil
from typing import NamedTuple

import av.container
import numpy as np
import numpy.typing as npt
from av.video.stream import VideoStream

from fcvideo.errors import VideoError
from fcvideo.video.container import demux, is_flush, open_video, seek_to_key
from fcvideo.video.cropping import Crop, container_crop
from fcvideo.video.decode import CLOCK_RESTART_SECONDS, decode_in_order, decode_indexed, decode_untimed
from fcvideo.video.inputs import Source

# Codecs where a packet is a frame. Others may hide frames in packets of their own (vp8) or pack two into one (mpeg4).
_ONE_FRAME_PER_PACKET = frozenset(
    (
        *("h264", "hevc", "vvc", "vp9", "av1", "libdav1d", "mjpeg", "mpeg2video", "mpeg1video"),
        *("prores", "dnxhd", "ffv1", "gif", "rawvideo"),
    )
)
_FIELD_CODECS = frozenset(("h264", "hevc"))  # interlaced, the two fields of a frame may be two packets
_PROGRESSIVE = (0, 1)  # AV_FIELD_UNKNOWN, AV_FIELD_PROGRESSIVE
# Formats that give the same packets after a jump as without it; a damaged AVI follows its index only after a jump.
_SEEKABLE_FORMATS = frozenset(("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "mpegts"))
# Formats that may store decoding times alone: AVI always does; in the others the packets' order tells.
_UNTIMED_FORMATS = frozenset(("avi", "asf", "mxf"))
_TOLERANCE_SECONDS = Fraction(1, 1_000_000)


class Key(NamedTuple):
    """A key frame where reading may start."""

    pts: int
    dts: int
    frame_index: int


@dataclass(frozen=True)
class Segment:
    """What `read_frames` needs to read one stretch of a video; times in units of `time_base`.

    It holds the frames with start_pts <= pts < end_pts (None: no bound). `is_indexed`: frame indices are ranks in the
    packet index, and reading may start at the key frame `key_pts` (None: at the file's beginning); otherwise the file
    is decoded from its beginning and frames are counted.
    """

    source: Source
    index: int
    num_segments: int
    time_base: Fraction
    is_indexed: bool
    start_pts: int | None = None
    end_pts: int | None = None
    key_pts: int | None = None
    key_dts: int | None = None
    first_frame_index: int = 0  # of the frame where reading starts, at key_pts
    previous_pts: int | None = None  # of the frame before that one
    first_pts: int | None = None  # of the video's first frame
    num_packets: int | None = None  # of the whole video
    last_pts: int | None = None  # of the whole video's frames
    last_position: int | None = None  # of the video's last packet, in bytes of the file
    has_presentation_times: bool = True  # False: the decoder's order counts, see `decode_untimed`
    earlier_key: Key | None = None  # of the segment before, for where key_pts gives no picture
    crop: Crop | None = None  # what of the coded picture is shown


@dataclass(frozen=True)
class PacketIndex:
    """Packets that give a frame, in decoding order; `pts` without repetition."""

    pts: npt.NDArray[np.int64]
    dts: npt.NDArray[np.int64]
    is_keyframe: npt.NDArray[np.bool_]
    num_packets: int  # with those that are decoded but not shown
    last_position: int | None  # in bytes of the file


def plan_segments(
    source: Source,
    segment_seconds: float = 30.0,
    start_seconds: float | None = None,
    duration_seconds: float | None = None,
) -> list[Segment]:
    """Segments of about `segment_seconds`, in order; the cut depends on the file and these arguments alone.

    `start_seconds` and `duration_seconds` bound presentation time as the container says it; frame indices still count
    from the video's first frame. Empty if no frame is within the bounds. An image is one segment, whatever the bounds.
    Errors: VideoError.
    """
    if source.is_image:
        return [Segment(source, 0, 1, Fraction(1, 1000), False)]
    crop = container_crop(source)
    index, time_base, has_times = index_packets(source)
    window_start = window_end = None
    if start_seconds is not None:
        window_start = to_pts(start_seconds, time_base)
    if duration_seconds is not None:
        if start_seconds is None:
            first_pts = int(index.pts.min()) if index is not None else _first_shown_pts(source, has_times)
            start_seconds = float(first_pts * time_base)
        window_end = to_pts(start_seconds + duration_seconds, time_base)
    if index is None:
        whole = Segment(source, 0, 1, time_base, False, start_pts=window_start, end_pts=window_end, crop=crop)
        return [replace(whole, has_presentation_times=has_times)]
    cuts = _choose_cuts(index, round(segment_seconds / time_base))
    if len(cuts) > 1 and not _can_jump(source, index, cuts):
        cuts = cuts[:1]
    segments = [replace(segment, crop=crop) for segment in _make_segments(source, index, cuts, time_base)]
    return _within(segments, index, window_start, window_end)


class IndexedPackets(NamedTuple):
    """`packets` is None where packets and frames do not match one to one."""

    packets: PacketIndex | None
    time_base: Fraction
    has_presentation_times: bool  # False: where the container stores decoding times alone


def index_packets(source: Source) -> IndexedPackets:
    """Errors: VideoError."""
    with open_video(source) as (container, stream):
        assert stream.time_base is not None
        index, has_times = _index_packets(source, container, stream)
        return IndexedPackets(index, stream.time_base, has_times)


def to_pts(seconds: float, time_base: Fraction) -> int:
    """The first time stamp that is not before `seconds`; a microsecond before counts as not before."""
    return ceil((Fraction(seconds) - _TOLERANCE_SECONDS) / time_base)


def _index_packets(
    source: Source, container: av.container.InputContainer, stream: VideoStream
) -> tuple[PacketIndex | None, bool]:
    """The index, and whether there are presentation times. Errors: VideoError without any packet."""
    codec = stream.codec_context
    is_regular = codec.name in _ONE_FRAME_PER_PACKET
    has_fields = codec.name in _FIELD_CODECS and codec.field_order not in _PROGRESSIVE
    may_be_untimed = container.format.name in _UNTIMED_FORMATS and codec.has_b_frames and not has_fields
    if has_fields:
        is_regular = False
    pts, dts, is_keyframe = array("q"), array("q"), array("b")
    starts_clean: bool | None = None
    head_pts = 0  # of the first packet, shown or not
    num_packets, position = 0, None
    last_pts, ascends = None, True
    for packet in demux(source, container, stream):
        if packet is None:
            is_regular = False
            continue
        if is_flush(packet):
            continue
        num_packets += 1
        position = packet.pos
        if may_be_untimed and packet.pts is not None:
            ascends = ascends and (last_pts is None or packet.pts > last_pts)
            last_pts = packet.pts
        if packet.pts is None or not is_regular:
            is_regular = False
            if may_be_untimed and ascends:
                continue
            break
        if starts_clean is None:
            starts_clean, head_pts = packet.is_keyframe, packet.pts
        if not packet.is_discard:
            pts.append(packet.pts)
            dts.append(packet.pts if packet.dts is None else packet.dts)  # Matroska has none at its start
            is_keyframe.append(packet.is_keyframe)
    if not num_packets:
        raise VideoError("no_frames", f"{source.path}: found a video stream without packets, expected frames")
    if may_be_untimed and (container.format.name == "avi" or ascends):
        return None, False
    index = PacketIndex(
        np.array(pts, np.int64), np.array(dts, np.int64), np.array(is_keyframe, np.bool_), num_packets, position
    )
    if not is_regular or not len(pts) or len(np.unique(index.pts)) != len(pts):
        return None, True
    assert stream.time_base is not None
    if (np.diff(index.pts[index.is_keyframe]) <= -CLOCK_RESTART_SECONDS / stream.time_base).any():
        return None, True  # recordings joined to each other: their times do not say in which order they are shown
    if not starts_clean or index.pts.min() < head_pts:
        # Cut from a longer recording: the pictures before the first decodable one never show.
        is_shown = index.pts >= _first_shown_pts(source)
        pts_shown, dts_shown = index.pts[is_shown], index.dts[is_shown]
        index = PacketIndex(pts_shown, dts_shown, index.is_keyframe[is_shown], num_packets, position)
    return index, True


def _first_shown_pts(source: Source, has_presentation_times: bool = True) -> int:
    decode = decode_in_order if has_presentation_times else decode_untimed
    with open_video(source) as (container, stream):
        for picture in decode(demux(source, container, stream), stream):
            if picture.frame is not None:
                return picture.pts
    raise VideoError("no_frames", f"{source.path}: found a video stream without a picture, expected frames")


def _choose_cuts(index: PacketIndex, segment_pts: int) -> list[int]:
    """Positions in decoding order of the segments' first packets; the first is that of the first packet."""
    latest_before = np.maximum.accumulate(np.concatenate(([np.iinfo(np.int64).min], index.pts[:-1])))
    candidates = np.flatnonzero(index.is_keyframe & (index.pts > latest_before))
    candidates = candidates[candidates > 0]
    if not len(candidates):
        return [0]
    # The last key frame within the length, or the first one where key frames are further apart.
    ends = np.append(index.pts[candidates[1:]], index.pts.max() + 1)
    cuts, last_pts = [0], int(index.pts.min())
    for cut, end_pts in zip(candidates.tolist(), ends.tolist(), strict=True):
        if end_pts - last_pts > segment_pts:
            cuts.append(cut)
            last_pts = int(index.pts[cut])
    return cuts


def _can_jump(source: Source, index: PacketIndex, cuts: list[int]) -> bool:
    """Whether a jump to the last key frame finds it, and to one of three shows a picture: where decoding recovers only
    over time, none does, and where a key frame is damaged, others do.
    """
    tried = dict.fromkeys((cuts[-1], cuts[len(cuts) // 2], cuts[1]))
    with open_video(source) as (container, stream):
        if container.format.name not in _SEEKABLE_FORMATS:
            return False
        for cut in tried:
            key_pts, key_dts = int(index.pts[cut]), int(index.dts[cut])
            packets = seek_to_key(source, container, stream, key_pts, key_dts)
            if packets is None:
                return False
            picture = next(decode_indexed(packets, key_pts), None)
            if picture is not None and picture.pts == key_pts and picture.frame is not None:
                return True
    return False


def _make_segments(source: Source, index: PacketIndex, cuts: list[int], time_base: Fraction) -> list[Segment]:
    shown = np.sort(index.pts)
    first_pts = int(shown[0])
    segments = []
    earlier_key = None
    for i, cut in enumerate(cuts):
        start_pts = int(index.pts[cut]) if i else first_pts
        rank = int(np.searchsorted(shown, start_pts))
        segments.append(
            Segment(
                source,
                index=i,
                num_segments=len(cuts),
                time_base=time_base,
                is_indexed=True,
                start_pts=start_pts,
                end_pts=int(index.pts[cuts[i + 1]]) if i + 1 < len(cuts) else None,
                key_pts=start_pts if i else None,
                key_dts=int(index.dts[cut]) if i else None,
                first_frame_index=rank,
                previous_pts=int(shown[rank - 1]) if rank else None,
                first_pts=first_pts,
                num_packets=index.num_packets,
                last_pts=int(shown[-1]),
                last_position=index.last_position,
                earlier_key=earlier_key,
            )
        )
        earlier_key = Key(start_pts, int(index.dts[cut]), rank) if i else None
    return segments


def _within(
    segments: list[Segment], index: PacketIndex, window_start: int | None, window_end: int | None
) -> list[Segment]:
    """The segments narrowed to the window; those without a frame in it are left out."""
    shown = np.sort(index.pts)
    kept = []
    for segment in segments:
        start_pts, end_pts = segment.start_pts, segment.end_pts
        assert start_pts is not None
        if window_start is not None:
            start_pts = max(start_pts, window_start)
        if window_end is not None:
            end_pts = window_end if end_pts is None else min(end_pts, window_end)
        begin = int(np.searchsorted(shown, start_pts))
        end = len(shown) if end_pts is None else int(np.searchsorted(shown, end_pts))
        if begin < end:
            kept.append(replace(segment, start_pts=start_pts, end_pts=end_pts))
    return [replace(segment, index=i, num_segments=len(kept)) for i, segment in enumerate(kept)]
