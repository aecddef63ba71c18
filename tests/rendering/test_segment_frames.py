"""Pictures that lie in another segment are found without a look at all packets for every segment."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np

from fcvideo.rendering.segment_frames import PictureFinder
from fcvideo.video.inputs import Source
from fcvideo.video.read import read_frames
from fcvideo.video.segments import plan_segments

NUM_FRAMES = 120


def write_noise(path: Path) -> Path:
    """Some 9 MB in 12 key frames."""
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", 25, options={"crf": "10", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt, stream.codec_context.gop_size = 256, 192, "yuv420p", 10
        for _ in range(NUM_FRAMES):
            picture = rng.integers(0, 256, (192, 256, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode(None))
    return path


def bytes_read() -> int:
    """By this process so far."""
    return int(Path("/proc/self/io").read_text().split()[1])


def test_the_packets_are_looked_at_once_for_all_segments(tmp_path: Path):
    video = write_noise(tmp_path / "a.mkv")
    source, keys = Source(str(video), video.name), tmp_path / "keys.json"
    (segment,) = plan_segments(source)
    frames = {frame.frame_index: frame for frame in read_frames(segment)}
    costs = []
    for index in (37, 11, 88):
        before = bytes_read()
        found = PictureFinder(segment, keys, is_exact=False).find(index, frames[index].pts)
        costs.append(bytes_read() - before)
        np.testing.assert_array_equal(found, frames[index].image)
    assert costs[0] > video.stat().st_size
    assert max(costs[1:]) < 0.5 * video.stat().st_size
