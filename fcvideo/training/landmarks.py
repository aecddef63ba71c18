"""Landmarks of training faces, by a face mesh: what an expression code is asked to tell, and flows to move.

No labels are needed: lips, eyelids, brows, nose and outline, as the mesh sees them, say how a head turns and what its
face does.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fcvideo.faces.face_mesh import load_face_mesh
from fcvideo.models.face_mesh import SIDE_PX

# Numbers of the mesh's points, those of the picture's left half; RIGHT holds their mirror images in the same order.
LEFT = {
    "lips": (61, 146, 91, 181, 84, 185, 40, 39, 37, 78, 95, 88, 178, 87, 191, 80, 81, 82),
    "eye": (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246),
    "brow": (70, 63, 105, 66, 107, 46, 53, 52, 65, 55),
    "rest": (98, 234, 127, 21, 93, 58, 172, 136, 150, 176),
}
RIGHT = {
    "lips": (291, 375, 321, 405, 314, 409, 270, 269, 267, 308, 324, 318, 402, 317, 415, 310, 311, 312),
    "eye": (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466),
    "brow": (300, 293, 334, 296, 336, 276, 283, 282, 295, 285),
    "rest": (327, 454, 356, 251, 323, 288, 397, 365, 379, 400),
}
MIDDLE = {"lips": (0, 17, 13, 14), "rest": (1, 168, 10, 152)}
NOSE_TIP = 1
TOLD_PARTS = (("left eye", "left brow"), ("right eye", "right brow"), ("left lips", "right lips", "middle lips"))


def _parts() -> tuple[list[int], list[int], dict[str, slice]]:
    """Numbers of all points, for each of them its mirror image's place among them, and where parts lie."""
    numbers, parts = list[int](), dict[str, slice]()
    named = {f"left {name}": points for name, points in LEFT.items()}
    named |= {f"right {name}": points for name, points in RIGHT.items()}
    for name, points in (named | {f"middle {name}": points for name, points in MIDDLE.items()}).items():
        parts[name] = slice(len(numbers), len(numbers) + len(points))
        numbers += points
    other = dict(pair for name in LEFT for pair in zip(LEFT[name], RIGHT[name], strict=True))
    other |= {right: left for left, right in other.items()}
    return numbers, [numbers.index(other.get(number, number)) for number in numbers], parts


NUMBERS, MIRRORED, PARTS = _parts()
NUM_LANDMARKS = len(NUMBERS)

VIEW_ZOOM = (1.0, 1.35)  # how many sides of the crop the first view spans
VIEW_SHIFT = 0.05  # of half a side
CENTER = (0.0, -0.1)  # of the first view in the crop, in [-1, 1]
FILLED = 1.5  # sides of the second view for one of the face's extent
LEAST_SCORE = 0.5
PART_REACH = 0.22  # of the distances between eyes and from them to the lips: deviation around the centre of each


class LandmarkFinder(nn.Module):
    """Landmarks of face crops, each seen twice: through a view of its own, perhaps mirrored, and then upright and as
    large as the mesh was trained on."""

    def __init__(self) -> None:
        super().__init__()
        self.network = load_face_mesh()

    @torch.no_grad()
    def forward(self, stored: Tensor, generator: torch.Generator) -> Tensor:
        """uint8 crops (N, 3, S, S) to landmarks (N, K, 2) in [-1, 1] of the crop, x before y; NaN where none are sure.

        `generator` is the CPU's.
        """
        view, is_mirrored = draw_views(len(stored), generator)
        view, is_mirrored = view.to(stored.device), is_mirrored.to(stored.device)
        landmarks, _ = self._see(stored, view, is_mirrored)
        landmarks, scores = self._see(stored, view_around(landmarks, is_mirrored), is_mirrored)
        return landmarks.masked_fill((scores < LEAST_SCORE)[:, None, None], torch.nan)

    def _see(self, stored: Tensor, view: Tensor, is_mirrored: Tensor) -> tuple[Tensor, Tensor]:
        """Landmarks in the crop and scores (N,), by affines (N, 2, 3) from view to crop."""
        grid = F.affine_grid(view, [len(stored), 3, SIDE_PX, SIDE_PX], align_corners=False)
        seen = F.grid_sample(stored.float() / 255, grid, padding_mode="border", align_corners=False)
        points, scores = self.network(seen.contiguous(memory_format=torch.channels_last))
        found = points[:, NUMBERS, :2] * 2 / SIDE_PX - 1
        return _swap_sides(_move(view, found), is_mirrored), scores


def draw_views(num: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Affines (N, 2, 3) from views to crops, both in [-1, 1], and which of them mirror (N,) bool."""
    low, high = VIEW_ZOOM
    zoom = low + (high - low) * torch.rand(num, generator=generator)
    shift = VIEW_SHIFT * (2 * torch.rand(num, 2, generator=generator) - 1) + torch.tensor(CENTER)
    is_mirrored = torch.rand(num, generator=generator) < 0.5
    affine = torch.zeros(num, 2, 3)
    affine[:, 0, 0] = torch.where(is_mirrored, -zoom, zoom)
    affine[:, 1, 1] = zoom
    affine[:, :, 2] = shift
    return affine, is_mirrored


def view_around(landmarks: Tensor, is_mirrored: Tensor) -> Tensor:
    """Affines (N, 2, 3) from views in which faces with these landmarks (N, K, 2) stand upright, filling two thirds."""
    five = anchors(landmarks)
    across = five[:, 1] - five[:, 0]
    across = across / across.norm(dim=1, keepdim=True).clamp_min(1e-6)
    turn = torch.stack([across, torch.stack([-across[:, 1], across[:, 0]], dim=1)], dim=2)  # from upright to crop
    upright = landmarks @ turn
    low, high = upright.amin(dim=1), upright.amax(dim=1)
    half = FILLED * (high - low).amax(dim=1) / 2
    scale = torch.stack([torch.where(is_mirrored, -half, half), half], dim=1)
    center = torch.einsum("nij,nj->ni", turn, (low + high) / 2)
    return torch.cat([turn * scale[:, None], center[:, :, None]], dim=2)


def follow(landmarks: Tensor, affine: Tensor) -> Tensor:
    """Landmarks (N, K, 2) of stored crops to those of pictures sampled from them by `affine` (N, 2, 3), see
    `fcvideo.clips.augment.apply`; sides are swapped where it mirrors."""
    linear = affine[:, :, :2]
    inverse = torch.linalg.inv(linear)
    moved = torch.einsum("nij,nkj->nki", inverse, landmarks - affine[:, None, :, 2])
    return _swap_sides(moved, torch.linalg.det(linear) < 0)


def anchors(landmarks: Tensor) -> Tensor:
    """Landmarks (N, K, 2) to the centres of both eyes, the nose's tip and the corners of the mouth (N, 5, 2), each
    pair with the picture's left one first."""
    eyes = [landmarks[:, PARTS[name]].mean(dim=1) for name in ("left eye", "right eye")]
    points = [landmarks[:, NUMBERS.index(number)] for number in (NOSE_TIP, LEFT["lips"][0], RIGHT["lips"][0])]
    return torch.stack([*eyes, *points], dim=1)


def describe(landmarks: Tensor) -> list[Tensor]:
    """Landmarks (N, K, 2) to what is told of them, each (N, D) of a kind: where the anchors are, where about their
    centre at size 1, and at this size each eye with its brow and the lips, each about its own centre."""
    five = anchors(landmarks)
    centered = five - five.mean(dim=1, keepdim=True)
    size = centered.square().sum(dim=(1, 2), keepdim=True).sqrt().clamp_min(1e-6)
    parts = [torch.cat([landmarks[:, PARTS[name]] for name in names], dim=1) for names in TOLD_PARTS]
    centers = [five[:, 0], five[:, 1], five[:, 3:].mean(dim=1)]
    faces = [((part - center[:, None]) / size).flatten(1) for part, center in zip(parts, centers, strict=True)]
    return [five.flatten(1), (centered / size).flatten(1), *faces]


def to_grid(landmarks: Tensor, side_px: int) -> Tensor:
    """From [-1, 1] over a picture to grid units, where the centres of its outermost pixels are -1 and 1."""
    return landmarks * side_px / (side_px - 1)


def parts_mask(landmarks: Tensor, side_px: int) -> Tensor:
    """(N, 1, S, S): 1 at eyes and lips, falling off around them; 0 where landmarks (N, K, 2) are unknown."""
    five = anchors(landmarks)
    eyes, lips = five[:, :2], five[:, 3:].mean(dim=1)
    centers = torch.stack([eyes[:, 0], eyes[:, 1], lips], dim=1)
    distance = (eyes[:, 0] - eyes[:, 1]).norm(dim=1) / 2 + (lips - eyes.mean(dim=1)).norm(dim=1) / 2
    reach = PART_REACH * distance[:, None, None, None]
    place = torch.linspace(-1, 1, side_px, device=landmarks.device) * (side_px - 1) / side_px
    across = (place[None, None, :] - centers[..., :1])[:, :, None, :]
    down = (place[None, None, :] - centers[..., 1:])[:, :, :, None]
    fall = torch.exp(-(across.square() + down.square()) / (2 * reach.square()))
    return fall.amax(dim=1, keepdim=True).nan_to_num(0.0)


def _move(affine: Tensor, points: Tensor) -> Tensor:
    """Points (N, K, 2) through affines (N, 2, 3)."""
    return torch.einsum("nij,nkj->nki", affine[:, :, :2], points) + affine[:, None, :, 2]


def _swap_sides(landmarks: Tensor, where: Tensor) -> Tensor:
    """Left for right in the rows that `where` (N,) names."""
    return torch.where(where[:, None, None], landmarks[:, MIRRORED], landmarks)
