from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from fcvideo.clips.augment import Augmentation, apply, draw_affine, draw_color, framing_affine
from fcvideo.clips.pairs import ClipPairs, PairRule, PairSampler, WithStills, another_view, steps_per_epoch
from fcvideo.clips.store import ClipStore

STILL = Augmentation()
JITTER = Augmentation(zoom=0.1, aspect=0.05, shift=0.05, rotation_deg=5, color=0.2, hue=0.02, gray_probability=0.2)


@pytest.fixture
def store(crops_file: Path) -> ClipStore:
    return ClipStore(crops_file)


def test_a_pair_is_a_function_of_seed_epoch_and_clip(store: ClipStore) -> None:
    pairs, again = (ClipPairs(store, PairRule(0.5, JITTER), seed=3) for _ in range(2))
    again[1, 5]  # what was read before does not matter
    for a, b in zip(pairs[2, 7], again[2, 7], strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(pairs[2, 7].affine, pairs[3, 7].affine)


def test_a_pair_is_two_frames_of_one_clip_or_a_face_and_its_mirror_image(store: ClipStore) -> None:
    frames = ClipPairs(store, PairRule(0.0, STILL), seed=0)
    assert all(not torch.equal(*frames[epoch, 0].images) for epoch in range(20))
    mirrors = ClipPairs(store, PairRule(1.0, STILL), seed=0)
    for epoch in range(5):
        pair = mirrors[epoch, 0]
        assert torch.equal(*pair.images)
        first, second = apply(pair.images, pair.affine, pair.color, 64)
        assert torch.allclose(first, second.flip(-1), atol=1e-4)


def test_both_pictures_of_a_pair_have_the_same_colors(store: ClipStore) -> None:
    pair = ClipPairs(store, PairRule(0.0, JITTER), seed=0)[0, 0]
    assert torch.equal(pair.color[0], pair.color[1])
    assert not torch.equal(pair.affine[0], pair.affine[1])


def test_ranks_together_see_what_one_rank_would(store: ClipStore) -> None:
    whole = iter(PairSampler(store, 4, seed=1))
    halves = [iter(PairSampler(store, 4, seed=1, rank=rank, world_size=2)) for rank in range(2)]
    for _ in range(10):
        assert next(whole) == next(halves[0]) + next(halves[1])


def test_a_sampler_goes_on_where_another_stopped(store: ClipStore) -> None:
    whole = iter(PairSampler(store, 4, seed=1))
    for _ in range(5):
        next(whole)
    late = iter(PairSampler(store, 4, seed=1, first_step=5))
    assert [next(whole) for _ in range(6)] == [next(late) for _ in range(6)]


def test_an_epoch_has_every_clip_once(store: ClipStore) -> None:
    sampler = iter(PairSampler(store, 4, seed=1))
    clips = [clip for _ in range(steps_per_epoch(len(store), 4)) for epoch, clip in next(sampler) if epoch == 0]
    assert sorted(clips) == list(range(12))


def test_a_batch_larger_than_the_data_wraps(store: ClipStore) -> None:
    batch = next(iter(PairSampler(store, 16, seed=1)))
    assert len(batch) == 16
    assert {clip for _, clip in batch} == set(range(12))


def test_a_tighter_framing_keeps_the_box_center() -> None:
    affine = framing_affine(1.1, 1.45, (0.5, 0.4))
    center = np.array([0.0, -0.2, 1.0])  # (0.5, 0.4) in [-1, 1]
    assert affine @ center == pytest.approx(center)
    assert affine[0, 0] == pytest.approx(1.1 / 1.45)


def test_no_augmentation_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    assert draw_affine(rng, STILL, flip=False) == pytest.approx(np.eye(3))
    assert draw_color(rng, STILL) == pytest.approx(np.eye(3, 4))
    images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    smooth = torch.nn.functional.avg_pool2d(images.float(), 9, 1, 4).to(torch.uint8)
    eye = torch.eye(3)
    out = apply(smooth, eye[None, :2], torch.eye(3, 4)[None], 64)
    assert (out * 255 - smooth).abs().mean() < 2


def test_gray_pictures_have_equal_channels_and_colors_stay_in_range() -> None:
    rng = np.random.default_rng(0)
    color = torch.from_numpy(draw_color(rng, Augmentation(color=0.9, gray_probability=1.0))).float()
    images = torch.randint(0, 256, (1, 3, 8, 8), dtype=torch.uint8)
    out = apply(images, torch.eye(3)[None, :2], color[None], 8)
    assert torch.allclose(out[:, 0], out[:, 2], atol=1e-6)
    assert 0 <= out.min() <= out.max() <= 1


def test_across_clips_a_pair_is_of_two_clips_of_one_person_in_colors_of_their_own(store: ClipStore) -> None:
    pairs = ClipPairs(store, PairRule(0.0, JITTER, across_clips=True, same_color=False), seed=0)
    within = ClipPairs(store, PairRule(0.0, STILL), seed=0)
    pair = pairs[0, 4]
    own = {within[epoch, 4].images[0].numpy().tobytes() for epoch in range(40)}
    others = {within[epoch, 5].images[0].numpy().tobytes() for epoch in range(40)}  # persons are clip // 2
    assert pair.images[0].numpy().tobytes() in own
    assert pair.images[1].numpy().tobytes() in others
    assert any(not torch.equal(*pairs[epoch, 4].color) for epoch in range(3))
    assert pair.person[0] == pair.person[1] == store.persons[5] != store.persons[6]


def test_stills_have_their_share_of_each_batch_and_are_taken_as_they_are_framed(store: ClipStore) -> None:
    both = WithStills(store, store)
    assert len(both) == 2 * len(store)
    assert not set(both.persons[: len(store)]) & set(both.persons[len(store) :])
    sampler = PairSampler(both, 6, seed=1, num_stills=2)
    batches = list(zip(range(9), sampler, strict=False))
    assert all(sum(clip >= len(store) for _, clip in batch) == 2 for _, batch in batches)
    late = iter(PairSampler(both, 6, seed=1, first_step=7, num_stills=2))
    assert [next(late), next(late)] == [batch for _, batch in batches[7:]]
    pairs = ClipPairs(both, PairRule(0.0, STILL, side_factor=1.1), seed=0)
    clip, still = pairs[0, 3].affine[0].abs(), pairs[0, 3 + len(store)].affine[0].abs()
    assert torch.allclose(still, torch.eye(2, 3), atol=1e-6)
    assert clip[0, 0].item() == pytest.approx(1.1 / 1.45)


def test_pictures_of_a_pair_are_framed_alike_as_far_as_the_rule_says(store: ClipStore) -> None:
    def differences(common_framing: float) -> tuple[float, float]:
        """Of the zooms of both pictures of a pair, and of those of different pairs, mean absolute."""
        pairs = ClipPairs(store, PairRule(0.0, Augmentation(zoom=0.2), common_framing=common_framing), seed=0)
        zooms = torch.stack([pairs[epoch, 0].affine[:, 0, 0].abs() for epoch in range(200)])
        return float((zooms[:, 0] - zooms[:, 1]).abs().mean()), float((zooms[:100] - zooms[100:]).abs().mean())

    apart, alike, same = differences(0.0), differences(0.7), differences(1.0)
    assert apart[0] == pytest.approx(0.4 / 3, rel=0.15)  # of two uniform draws
    assert alike[0] == pytest.approx(0.3 * 0.4 / 3, rel=0.25)
    assert same[0] == pytest.approx(0, abs=1e-6)
    assert same[1] == pytest.approx(apart[1], rel=0.15)


def test_another_view_is_turned_and_mirrored_alike_and_has_other_colors(store: ClipStore) -> None:
    pairs = ClipPairs(store, PairRule(0.5, JITTER), seed=0)
    pair = default_collate([pairs[0, clip] for clip in range(6)])
    view = another_view(pair, JITTER, np.random.default_rng(0))
    assert torch.equal(view.images, pair.images)
    moves = torch.linalg.inv(pair.affine[..., :2]) @ view.affine[..., :2]  # what was done before, undone
    assert (moves.diagonal(dim1=-2, dim2=-1) > 0.5).all()
    assert moves[..., 0, 1].abs().max() < 1e-5
    assert moves[..., 1, 0].abs().max() < 1e-5
    assert not torch.allclose(view.affine, pair.affine, atol=1e-3)
    assert not torch.allclose(view.color, pair.color, atol=1e-3)
    still = another_view(pair, STILL, np.random.default_rng(0))
    assert torch.allclose(still.affine, pair.affine, atol=1e-6)
