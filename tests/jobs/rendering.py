"""Short ways to run the jobs that render, a clip made for them, and what they wrote."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from fcvideo.assembly.task import Stages
from fcvideo.config import DeidentifySettings, FrontalizeSettings, ReenactSettings
from fcvideo.jobs.deidentify import deidentify
from fcvideo.jobs.frontalize import frontalize
from fcvideo.jobs.reenact import reenact

# No face at first, then one, which goes away for longer than is bridged, and comes back.
NUM_FRAMES, NUM_FACES = 84, 48
ABSENT = (range(0, 12), range(36, 60))
TIMES = [500 + 30 * i + 7 * (i % 2) + (200 if i >= 70 else 0) for i in range(NUM_FRAMES)]  # in 1/1000 s


def run_reenact(source: Any, target: Any, model: Path, stages: Stages | None = None, **settings: Any) -> dict:
    flags = _flags(model) | settings
    return reenact(ReenactSettings(source=_texts(source), target=_texts(target), **flags), stages)


def run_frontalize(*inputs: Path, model: Path, stages: Stages | None = None, **settings: Any) -> dict:
    return frontalize(FrontalizeSettings(inputs=_texts(inputs), **(_flags(model) | settings)), stages)


def run_deidentify(*inputs: Path, model: Path, stages: Stages | None = None, **settings: Any) -> dict:
    return deidentify(DeidentifySettings(inputs=_texts(inputs), **(_flags(model) | settings)), stages)


def _flags(model: Path) -> dict[str, Any]:
    return {"model": str(model), "gpus": 0, "progress": "none", "workers": 1, "size": 64}


def _texts(paths: Any) -> tuple[str, ...]:
    return tuple(map(str, paths)) if isinstance(paths, Sequence) and not isinstance(paths, str) else (str(paths),)


def counts(summary: dict[str, Any]) -> tuple[int, ...]:
    """Frames, faces, held, missing, lost."""
    return tuple(summary[name] for name in ("frames", "faces", "held", "missing", "lost"))


def faces_of(clip: Path, num: int, size: tuple[int, int] = (240, 136)) -> list[np.ndarray]:
    with av.open(str(clip)) as container:
        frames = (frame for _, frame in zip(range(num), container.decode(video=0), strict=False))
        return [frame.reformat(*size, "rgb24").to_ndarray() for frame in frames]


def write_clip(path: Path, faces: Sequence[np.ndarray], times: Sequence[int] = TIMES, gop: int = 12) -> Path:
    """A video of NUM_FRAMES frames at `times`, with a face but in ABSENT, and a tone."""
    absent = {i for stretch in ABSENT for i in stretch}
    with av.open(str(path), "w") as container:
        video = container.add_stream("h264", rate=30, options={"preset": "ultrafast", "crf": "20"})
        video.height, video.width, _ = faces[0].shape
        video.pix_fmt, video.codec_context.gop_size = "yuv420p", gop
        video.codec_context.time_base = Fraction(1, 1000)
        sound = container.add_stream("aac", rate=16_000, layout="mono")
        for i, pts in enumerate(times):
            picture = np.full_like(faces[0], 90 + i) if i in absent else faces[i % len(faces)]
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = pts, Fraction(1, 1000)
            container.mux(video.encode(frame))
        tone = np.sin(np.arange(16 * times[-1]) * 0.1).astype(np.float32)
        for start in range(0, len(tone), 1024):
            samples = av.AudioFrame.from_ndarray(tone[None, start : start + 1024], format="fltp", layout="mono")
            samples.sample_rate, samples.pts, samples.time_base = 16_000, start, Fraction(1, 16_000)
            container.mux(sound.encode(samples))
        container.mux(video.encode(None))
        container.mux(sound.encode(None))
    return path


def times_of(video: Path, kind: str = "video") -> list[float]:
    """Presentation times of all packets that are shown, in seconds."""
    with av.open(str(video)) as container:
        (stream,) = container.streams.get(**{kind: 0})
        packets = [p for p in container.demux(stream) if p.size and not p.is_discard]
        return sorted(float(packet.pts * packet.time_base) for packet in packets)


def sound_of(video: Path) -> list[bytes]:
    with av.open(str(video)) as container:
        return [bytes(packet) for packet in container.demux(audio=0) if packet.size]


def has_sound(video: Path) -> bool:
    with av.open(str(video)) as container:
        return bool(container.streams.audio)


def pictures_of(video: Path) -> list[np.ndarray]:
    with av.open(str(video)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def digests(video: Path) -> list[str]:
    """One for each decoded picture."""
    return [hashlib.sha256(picture.tobytes()).hexdigest() for picture in pictures_of(video)]


def leftovers(folder: Path) -> list[str]:
    """Files that only a run under way may leave."""
    return [path.name for path in folder.rglob("*") if path.name.endswith((".parts", ".unfinished", ".removed"))]
