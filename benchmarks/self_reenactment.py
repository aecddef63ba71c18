"""How near a reenacted face comes to the truth: source and target from one clip, other times.

python benchmarks/self_reenactment.py CLIP.. [--model M] [--seconds 10] [--frames 40] [--size 256] [--sheet sheet.png]

The target is the most frontal frame of a clip's first quarter; the sources are frames of the other three. The truth for
each is the source frame itself. Beside the result stand two rivals: the target as it is, and its neutral face; and two
parts of the result: the networks' picture alone, and the warp alone.

SSIM and L1 at the networks' size, pictures in [0, 1]. Identity is the cosine of identity codes with the truth's, and
how many are above the threshold that best tells frames of one clip from those of the others. Landmarks are how far
those that the face mesh sees are from the truth's, in % of the distance between the eyes. Mouth is how far lips open:
its correlation with the truth's over a clip's frames, and how much of the change from target to truth is made (1: all).
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from fcvideo.config import DEFAULT_MODEL
from fcvideo.faces.crop import Framing, crop_affine, crop_face
from fcvideo.faces.detect import FaceDetector
from fcvideo.faces.steady import choose_face, steady_face
from fcvideo.faces.track import assign_tracks
from fcvideo.models.facecycle import denormalize, normalize_unit
from fcvideo.models.store import load_model
from fcvideo.models.warp import compose_flows, warp_picture
from fcvideo.rendering.portrait import PortraitPainter, motion_size
from fcvideo.training.landmarks import NUMBERS, LandmarkFinder, anchors
from fcvideo.training.losses import ssim
from fcvideo.video.inputs import Source
from fcvideo.video.read import read_frames
from fcvideo.video.segments import plan_segments

SHOWN = ("truth", "target", "neutral", "networks alone", "warp alone", "result")
SHEET_ROWS = 3  # of each clip
VIEWS = 3  # of each picture, whose landmarks are averaged


@dataclass(frozen=True)
class Clip:
    name: str
    crops: np.ndarray  # uint8 (F, S, S, 3)
    pictures: np.ndarray  # uint8 (F, size, size, 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="+")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each clip, from its beginning")
    parser.add_argument("--frames", type=int, default=40, help="sources of each clip")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--sheet", type=Path, help="also draw some of the faces")
    arguments = parser.parse_args()
    painter = PortraitPainter(load_model(arguments.model))
    clips = [load_clip(painter, path, arguments.seconds, arguments.size) for path in arguments.clips]
    codes = [identity(painter, pictures_of(clip.crops)) for clip in clips]
    threshold, find = best_threshold(codes), LandmarkFinder()
    rows: list[np.ndarray] = []
    totals = defaultdict(list)
    for clip in clips:
        made = reenact(painter, clip, arguments.frames)
        landmarks = {name: find_landmarks(find, pictures) for name, pictures in made.items()}
        print(f"\n{clip.name}, {len(made['truth'])} frames")
        for name in SHOWN[1:]:
            figures = compare(painter, made[name], made["truth"], threshold)
            figures += compare_landmarks(*(landmarks[key] for key in (name, "truth", "target")))
            totals[name].append(figures)
            print_row(name, figures)
        picked = np.linspace(0, len(made["truth"]) - 1, SHEET_ROWS).round().astype(int)
        rows += [np.concatenate([to_bytes(made[name][i]) for name in SHOWN], axis=1) for i in picked]
    print(f"\nmean of {len(clips)} clips (identity threshold {threshold:.3f})")
    for name, figures in totals.items():
        print_row(name, np.nanmean(figures, axis=0).tolist())
    if arguments.sheet is not None:
        Image.fromarray(np.concatenate(rows)).save(arguments.sheet)


def print_row(name: str, figures: Sequence[float]) -> None:
    line = "  {:<16} SSIM {:.3f}  L1 {:.4f}  identity {:.3f}, kept {:.0f} %"
    line += "  landmarks {:.1f} %  mouth {:.2f}, change {:.2f}"
    print(line.format(name, *figures))


def load_clip(painter: PortraitPainter, path: str, seconds: float, size_px: int) -> Clip:
    """The main face of a clip, cut out steadily, where it was seen."""
    detect, images, found = FaceDetector(min_face_px=40), [], []
    for segment in plan_segments(Source(path, Path(path).name), duration_seconds=seconds):
        for frame in read_frames(segment):
            if frame.image is not None:
                (faces,) = detect([frame.image])
                found += [(len(images), frame.pts_seconds, box) for box in faces.boxes]
                images.append(frame)
    frames, times = np.array([row[0] for row in found]), np.array([row[1] for row in found])
    boxes = np.stack([row[2] for row in found])
    tracks = assign_tracks(frames, times, boxes)
    rows = choose_face(frames, times, boxes, tracks)
    steady = steady_face(np.array([frame.pts_seconds for frame in images]), frames[rows], boxes[rows], tracks[rows])
    cut = defaultdict(list)
    for index in np.flatnonzero(
        steady.is_seen & (steady.stretch == np.bincount(steady.stretch[steady.is_seen]).argmax())
    ):
        for side_px in (painter.side_px, size_px):
            affine = crop_affine(steady.boxes[index], side_px, Framing.of(painter.model.config))
            image = images[index].image
            assert image is not None
            cut[side_px].append(crop_face(image, affine, side_px))
    return Clip(Path(path).name, np.stack(cut[painter.side_px]), np.stack(cut[size_px]))


@torch.inference_mode()
def reenact(painter: PortraitPainter, clip: Clip, num_frames: int) -> dict[str, Tensor]:
    """Pictures (N, 3, size, size) in [0, 1] of SHOWN."""
    looks = painter.look(clip.crops)
    motion = painter.motion(painter.codes(looks))
    num = len(clip.crops)
    target = int(motion_size(motion[: max(1, num // 4)]).argmin())
    sources = torch.from_numpy(np.linspace(num // 4, num - 1, min(num_frames, num - num // 4)).round().astype(np.int64))
    rows = slice(target, target + 1)
    portrait = painter.portraits(painter.look(clip.crops[rows]), clip.pictures[rows], motion[rows]).expand(len(sources))
    moved = motion[sources]
    size = portrait.picture.shape[-2:]

    def enlarge(faces: Tensor) -> Tensor:
        return F.interpolate(faces, size=size, mode="bicubic", align_corners=False).clamp(0, 1)

    shift = compose_flows(moved.backward, portrait.motion.forward)
    return {
        "truth": pictures_of(clip.pictures[sources.numpy()]),
        "target": portrait.picture,
        "neutral": enlarge(denormalize(portrait.neutral)),
        "networks alone": enlarge(denormalize(painter.model.re_express(portrait.neutral, moved.backward))),
        "warp alone": warp_picture(portrait.picture, shift).clamp(0, 1),
        "result": painter.reenact(portrait, moved),
    }


@torch.inference_mode()
def compare(painter: PortraitPainter, made: Tensor, truth: Tensor, threshold: float) -> list[float]:
    """SSIM, L1, mean cosine of identity codes, and how many per cent of them reach the threshold."""
    made, truth = (F.interpolate(x, size=(painter.side_px,) * 2, mode="area") for x in (made, truth))
    cosine = F.cosine_similarity(identity(painter, made), identity(painter, truth)).numpy()
    kept = 100 * (cosine >= threshold).mean()
    return [float(ssim(made, truth).mean()), float((made - truth).abs().mean()), float(cosine.mean()), float(kept)]


def compare_landmarks(made: Tensor, truth: Tensor, target: Tensor) -> list[float]:
    """Of landmarks (N, K, 2): their distance from the truth's, in % of the distance between its eyes; the correlation
    of how far lips open with the truth's, and how much of its change from the target they make."""
    known = (made + truth + target).isfinite().flatten(1).all(dim=1)
    made, truth, target = made[known], truth[known], target[known]
    error = 100 * ((made - truth).norm(dim=2).mean(dim=1) / between_eyes(truth)).mean()
    opened, wanted, before = (opening(landmarks) for landmarks in (made, truth, target))
    correlation = np.corrcoef(opened, wanted)[0, 1]
    change = np.sum((opened - before) * (wanted - before)) / np.sum((wanted - before) ** 2)
    return [float(error), float(correlation), float(change)]


def find_landmarks(find: LandmarkFinder, pictures: Tensor) -> Tensor:
    """(N, K, 2), mean of several views."""
    generator, parts = torch.Generator().manual_seed(0), (255 * pictures).byte().split(16)
    return torch.stack([torch.cat([find(part, generator) for part in parts]) for _ in range(VIEWS)]).mean(dim=0)


def opening(landmarks: Tensor) -> np.ndarray:
    """How far lips are open (N,), in distances between the eyes."""
    upper, lower = (landmarks[:, NUMBERS.index(number)] for number in (13, 14))
    return ((upper - lower).norm(dim=1) / between_eyes(landmarks)).numpy()


def between_eyes(landmarks: Tensor) -> Tensor:
    eyes = anchors(landmarks)[:, :2]
    return (eyes[:, 0] - eyes[:, 1]).norm(dim=1)


@torch.inference_mode()
def identity(painter: PortraitPainter, faces: Tensor) -> Tensor:
    return painter.model.encode_identity(normalize_unit(faces))


def best_threshold(codes: list[Tensor]) -> float:
    """The cosine that best tells pairs of one clip from pairs of two."""
    every = F.normalize(torch.cat([code[:: max(1, len(code) // 40)] for code in codes]), dim=1)
    clip = torch.cat([torch.full((len(code[:: max(1, len(code) // 40)]),), i) for i, code in enumerate(codes)])
    cosine, same = every @ every.T, clip[:, None] == clip[None]
    candidates = torch.linspace(0, 1, 201)
    right = [((cosine[same] >= t).float().mean() + (cosine[~same] < t).float().mean()).item() for t in candidates]
    return float(candidates[int(np.argmax(right))])


def pictures_of(images: np.ndarray) -> Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255


def to_bytes(picture: Tensor) -> np.ndarray:
    return (picture * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()


if __name__ == "__main__":
    main()
