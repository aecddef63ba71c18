"""Plans how a video is cut into independently readable segments: one pass over its packets, nothing decoded.

A segment begins at a key frame before which no later-shown picture was decoded; so its frames are the same whether the
reader jumps there or comes from the beginning. A file whose packets do not bear that out is one segment.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil

import av.container
import numpy as np
import numpy.typing as npt
from av.video.stream import VideoStream

from fcvideo.errors import VideoError
from fcvideo.video.container import demux, is_flush, open_video, seek_to_key
from fcvideo.video.cropping import Crop, container_crop
from fcvideo.video.decode import decode_in_order
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
_TOLERANCE_SECONDS = Fraction(1, 1_000_000)


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
    crop: Crop | None = None  # what of the coded picture is shown


@dataclass(frozen=True)
class PacketIndex:
    """Packets that give a frame, in decoding order; `pts` without repetition."""

    pts: npt.NDArray[np.int64]
    dts: npt.NDArray[np.int64]
    is_keyframe: npt.NDArray[np.bool_]
    num_packets: int  # with those that are decoded but not shown


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
    index, time_base = index_packets(source)
    window_start = window_end = None
    if start_seconds is not None:
        window_start = to_pts(start_seconds, time_base)
    if duration_seconds is not None:
        if start_seconds is None:
            first_pts = int(index.pts.min()) if index is not None else _first_shown_pts(source)
            start_seconds = float(first_pts * time_base)
        window_end = to_pts(start_seconds + duration_seconds, time_base)
    if index is None:
        return [Segment(source, 0, 1, time_base, False, start_pts=window_start, end_pts=window_end, crop=crop)]
    cuts = _choose_cuts(index, round(segment_seconds / time_base))
    if len(cuts) > 1 and not _can_jump(source, int(index.pts[cuts[-1]]), int(index.dts[cuts[-1]])):
        cuts = cuts[:1]
    segments = [replace(segment, crop=crop) for segment in _make_segments(source, index, cuts, time_base)]
    return _within(segments, index, window_start, window_end)


def index_packets(source: Source) -> tuple[PacketIndex | None, Fraction]:
    """The packet index and the time base; None where packets and frames do not match one to one. Errors: VideoError."""
    with open_video(source) as (container, stream):
        assert stream.time_base is not None
        return _index_packets(source, container, stream), stream.time_base


def to_pts(seconds: float, time_base: Fraction) -> int:
    """The first time stamp that is not before `seconds`; a microsecond before counts as not before."""
    return ceil((Fraction(seconds) - _TOLERANCE_SECONDS) / time_base)


def _index_packets(source: Source, container: av.container.InputContainer, stream: VideoStream) -> PacketIndex | None:
    """None where packets and frames cannot be taken to match one to one. Errors: VideoError without any packet."""
    codec = stream.codec_context
    is_regular = codec.name in _ONE_FRAME_PER_PACKET
    if codec.name in _FIELD_CODECS and codec.field_order not in _PROGRESSIVE:
        is_regular = False
    pts, dts, is_keyframe = array("q"), array("q"), array("b")
    starts_clean: bool | None = None
    head_pts = 0  # of the first packet, shown or not
    num_packets = 0
    for packet in demux(source, container, stream):
        if packet is None:
            is_regular = False
            continue
        if is_flush(packet):
            continue
        num_packets += 1
        if packet.pts is None or not is_regular:
            is_regular = False
            break
        if starts_clean is None:
            starts_clean, head_pts = packet.is_keyframe, packet.pts
        if not packet.is_discard:
            pts.append(packet.pts)
            dts.append(packet.pts if packet.dts is None else packet.dts)  # Matroska has none at its start
            is_keyframe.append(packet.is_keyframe)
    if not num_packets:
        raise VideoError("no_frames", f"{source.path}: found a video stream without packets, expected frames")
    index = PacketIndex(np.array(pts, np.int64), np.array(dts, np.int64), np.array(is_keyframe, np.bool_), num_packets)
    if not is_regular or not len(pts) or len(np.unique(index.pts)) != len(pts):
        return None
    if not starts_clean or index.pts.min() < head_pts:
        # Cut from a longer recording: the pictures before the first decodable one never show.
        is_shown = index.pts >= _first_shown_pts(source)
        index = PacketIndex(index.pts[is_shown], index.dts[is_shown], index.is_keyframe[is_shown], num_packets)
    return index


def _first_shown_pts(source: Source) -> int:
    with open_video(source) as (container, stream):
        for picture in decode_in_order(demux(source, container, stream), stream):
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


def _can_jump(source: Source, key_pts: int, key_dts: int) -> bool:
    with open_video(source) as (container, stream):
        if container.format.name not in _SEEKABLE_FORMATS:
            return False
        return seek_to_key(source, container, stream, key_pts, key_dts) is not None


def _make_segments(source: Source, index: PacketIndex, cuts: list[int], time_base: Fraction) -> list[Segment]:
    shown = np.sort(index.pts)
    first_pts = int(shown[0])
    segments = []
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
            )
        )
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
