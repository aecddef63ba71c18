"""Five landmarks of training faces, by the detector that the product ships: what an expression code is asked to tell.

No labels of pose are needed: eyes, nose and corners of the mouth, as YuNet sees them, say where a head turns.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fcvideo.faces.yunet import load_yunet

VIEW_SIDE_PX = 128  # of the pictures that the detector is shown
VIEW_ZOOM = (0.95, 1.45)  # how many sides of the crop a view spans
VIEW_SHIFT = 0.1  # of half a side
CENTER = (0.0, -0.2)  # where in a crop the face is expected, in [-1, 1]: the default framing's
DISTANCE_PENALTY = 0.3  # of a face's score for each half side that it is away from there
LEAST_SCORE = 0.5
MIRRORED = [1, 0, 2, 4, 3]  # eyes, nose, corners of the mouth: the picture's left one first


class LandmarkFinder(nn.Module):
    """Landmarks of face crops, each seen through a view of its own: moved, zoomed and perhaps mirrored.

    The detector errs differently in every view: a pose probe of one view's landmarks errs by 6.0 / 4.6 / 4.0 degrees,
    of the mean of eight by 5.3 / 4.0 / 2.6. A code that learns to tell them averages over more.
    """

    def __init__(self) -> None:
        super().__init__()
        self.network = load_yunet()

    @torch.no_grad()
    def forward(self, stored: Tensor, generator: torch.Generator) -> Tensor:
        """uint8 crops (N, 3, S, S) to landmarks (N, 5, 2) in [-1, 1] of the crop, x before y; NaN where none are sure.

        `generator` is the CPU's.
        """
        view, is_mirrored = draw_views(len(stored), generator)
        view, is_mirrored = view.to(stored.device), is_mirrored.to(stored.device)
        grid = F.affine_grid(view, [len(stored), 3, VIEW_SIDE_PX, VIEW_SIDE_PX], align_corners=False)
        seen = F.grid_sample(stored.float(), grid, padding_mode="border", align_corners=False)
        scores, centers, landmarks = decode_maps(self.network(seen.contiguous(memory_format=torch.channels_last)))
        far = (_move(view, centers) - torch.tensor(CENTER, device=stored.device)).norm(dim=-1)
        best = (scores - DISTANCE_PENALTY * far).argmax(dim=1)
        rows = torch.arange(len(stored), device=stored.device)
        found = _swap_sides(_move(view, landmarks[rows, best]), is_mirrored)
        return found.masked_fill((scores[rows, best] < LEAST_SCORE)[:, None, None], torch.nan)


def draw_views(num: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Affines (N, 2, 3) from views to crops, both in [-1, 1], and which of them mirror (N,) bool."""
    low, high = VIEW_ZOOM
    zoom = low + (high - low) * torch.rand(num, generator=generator)
    shift = VIEW_SHIFT * (2 * torch.rand(num, 2, generator=generator) - 1)
    is_mirrored = torch.rand(num, generator=generator) < 0.5
    affine = torch.zeros(num, 2, 3)
    affine[:, 0, 0] = torch.where(is_mirrored, -zoom, zoom)
    affine[:, 1, 1] = zoom
    affine[:, :, 2] = shift
    return affine, is_mirrored


def decode_maps(maps: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """YuNet's raw maps to scores (N, K), centres (N, K, 2) and landmarks (N, K, 5, 2) in [-1, 1] of its square input,
    for every cell of every map. Channels: see `fcvideo.faces.detect.decode`."""
    scores, centers, landmarks = [], [], []
    for cells in maps:
        side = cells.shape[-1]
        flat = cells.float().flatten(2).transpose(1, 2)  # (N, side^2, 16)
        place = torch.arange(side, device=cells.device)
        corner = torch.stack([place.repeat(side), place.repeat_interleave(side)], dim=1)
        scores.append(flat[..., :2].sigmoid().prod(dim=2).sqrt())
        centers.append((corner + flat[..., 2:4]) * 2 / side - 1)
        landmarks.append((corner[:, None] + flat[..., 6:].unflatten(2, (5, 2))) * 2 / side - 1)
    return torch.cat(scores, dim=1), torch.cat(centers, dim=1), torch.cat(landmarks, dim=1)


def follow(landmarks: Tensor, affine: Tensor) -> Tensor:
    """Landmarks (N, 5, 2) of stored crops to those of pictures sampled from them by `affine` (N, 2, 3), see
    `fcvideo.clips.augment.apply`; sides are swapped where it mirrors."""
    linear = affine[:, :, :2]
    inverse = torch.linalg.inv(linear)
    moved = torch.einsum("nij,nkj->nki", inverse, landmarks - affine[:, None, :, 2])
    return _swap_sides(moved, torch.linalg.det(linear) < 0)


def describe(landmarks: Tensor) -> Tensor:
    """Landmarks (N, 5, 2) to what is told of them (N, 20): where they are, and where about their centre, at size 1."""
    centered = landmarks - landmarks.mean(dim=1, keepdim=True)
    size = centered.square().sum(dim=(1, 2), keepdim=True).sqrt().clamp_min(1e-6)
    return torch.cat([landmarks.flatten(1), (centered / size).flatten(1)], dim=1)


def _move(affine: Tensor, points: Tensor) -> Tensor:
    """Points (N, .., 2) through affines (N, 2, 3)."""
    flat = points.flatten(1, -2)
    return (torch.einsum("nij,nkj->nki", affine[:, :, :2], flat) + affine[:, None, :, 2]).view_as(points)


def _swap_sides(landmarks: Tensor, where: Tensor) -> Tensor:
    """Left for right in the rows that `where` (N,) names."""
    return torch.where(where[:, None, None], landmarks[:, MIRRORED], landmarks)
