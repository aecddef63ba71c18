from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fcvideo.models.facecycle import normalize_unit
from fcvideo.rendering.portrait import PortraitPainter, Portraits, motion_size
from fcvideo.training.losses import ssim
from tests.rendering.conftest import SIZE_PX, FaceClip


def portraits_of(painter: PortraitPainter, clip: FaceClip, rows: slice = slice(None)) -> Portraits:
    looks = painter.look(clip.crops[rows])
    return painter.portraits(looks, clip.pictures[rows], painter.motion(painter.codes(looks)))


def seen_motion(painter: PortraitPainter, faces: Tensor) -> Tensor:
    """The forward flow that the networks read off generated faces (B, 3, H, W)."""
    small = F.interpolate(faces, size=(painter.side_px,) * 2, mode="area")
    crops = (small * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return painter.motion(painter.codes(painter.look(crops))).forward


def test_a_portrait_in_its_own_motion_is_itself(painter: PortraitPainter, astronaut: FaceClip):
    portraits = portraits_of(painter, astronaut)
    again = painter.reenact(portraits, portraits.motion)
    assert ssim(again, portraits.picture).min() > 0.9
    assert (again - portraits.picture).abs().mean() < 0.02


def test_the_source_s_own_neutral_frame_leaves_the_target_as_it_is(painter: PortraitPainter, astronaut: FaceClip):
    target = portraits_of(painter, astronaut, slice(0, 1))
    source = painter.motion(painter.codes(painter.look(astronaut.crops[4:5])))
    made = painter.reenact(target, source, reference=source)
    assert (made - target.picture).abs().mean() < 0.02


def test_a_reenacted_face_is_nearer_to_the_truth_than_the_target(painter: PortraitPainter, turning_head: FaceClip):
    every = portraits_of(painter, turning_head)
    target = portraits_of(painter, turning_head, slice(0, 1)).expand(len(every) - 1)
    truth = every.picture[1:]
    made = painter.reenact(target, every.motion[1:])
    assert ssim(made, truth).mean() > ssim(target.picture, truth).mean() + 0.05
    assert (made - truth).abs().mean() < 0.85 * (target.picture - truth).abs().mean()


def test_reenactment_carries_the_motion_to_another_person(
    painter: PortraitPainter, astronaut: FaceClip, turning_head: FaceClip
):
    source = painter.motion(painter.codes(painter.look(turning_head.crops)))
    target = portraits_of(painter, astronaut, slice(0, 1)).expand(len(source))
    found = seen_motion(painter, painter.reenact(target, source))
    to_source = (found - source.forward).abs().mean()
    of_target = (target.motion.forward - source.forward).abs().mean()
    assert to_source < 0.75 * of_target


def test_a_framed_face_meets_its_surroundings(painter: PortraitPainter, astronaut: FaceClip, turning_head: FaceClip):
    source = painter.motion(painter.codes(painter.look(turning_head.crops[:2])))
    target = portraits_of(painter, astronaut, slice(0, 1)).expand(2)
    made = painter.reenact(target, source, framed_strength=torch.tensor([1.0, 0.0]))
    change = (made - target.picture).abs()
    border = torch.cat([change[..., 0, :], change[..., -1, :], change[..., :, 0], change[..., :, -1]], dim=-1)
    assert border.mean() < 0.003
    assert border.max() < 0.05
    assert change[0].mean() > 0.01
    assert change[1].max() < 0.01  # strength 0: the portrait itself


def test_a_frontalized_face_has_less_motion(painter: PortraitPainter, turning_head: FaceClip):
    portraits = portraits_of(painter, turning_head)
    frontal = painter.frontalize(portraits)
    assert frontal.shape == (len(portraits), 3, SIZE_PX, SIZE_PX)
    left = seen_motion(painter, frontal).norm(dim=1).mean(dim=(1, 2))
    assert (left < 0.8 * motion_size(portraits.motion)).float().mean() > 0.7


def test_both_ways_to_the_neutral_face_show_the_same_person(painter: PortraitPainter, turning_head: FaceClip):
    looks = painter.look(turning_head.crops)
    motion = painter.motion(painter.codes(looks))
    one = painter.frontalize(painter.portraits(looks, turning_head.pictures, motion))
    other = painter.frontalize(painter.portraits(looks, turning_head.pictures, motion, "re-identity"))
    assert 0 < (one - other).abs().mean() < 0.08


def test_a_deidentified_face_is_nobody_s(painter: PortraitPainter, astronaut: FaceClip, turning_head: FaceClip):
    def identity(faces: Tensor) -> Tensor:
        small = F.interpolate(faces, size=(painter.side_px,) * 2, mode="area")
        return painter.model.encode_identity(normalize_unit(small))

    made, own = [], []
    for clip in (astronaut, turning_head):
        portraits = portraits_of(painter, clip)
        made.append(painter.deidentify(painter.look(clip.crops), portraits.motion, (SIZE_PX, SIZE_PX)))
        own.append(portraits.picture)
    with torch.inference_mode():
        kept = [F.cosine_similarity(identity(a), identity(b)).mean() for a, b in zip(made, own, strict=True)]
    assert max(kept) < 0.6
    between = (made[0].mean(0) - made[1].mean(0)).abs().mean()
    assert between < 0.3 * (own[0].mean(0) - own[1].mean(0)).abs().mean()
