import pytest
import torch

from fcvideo.training.landmarks import NUM_LANDMARKS, PARTS, describe
from fcvideo.training.telling import ToldLandmarks, fit_linear


def draw(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_a_layer_begins_at_what_codes_hold() -> None:
    codes, wanted = draw(200, 8, seed=0), draw(3, 8, seed=1)
    targets = codes @ wanted.T + 2
    layer = torch.nn.Linear(8, 3)
    fit_linear(layer, codes, targets)
    assert (layer(codes) - targets).abs().max() < 0.2


def test_a_code_that_is_constant_tells_the_mean() -> None:
    layer = torch.nn.Linear(8, 3)
    fit_linear(layer, torch.ones(50, 8), draw(50, 3, seed=0) + 4)
    assert layer(torch.ones(1, 8)).mean().item() == pytest.approx(4, abs=0.3)


def test_landmarks_that_the_code_holds_are_told_from_the_start() -> None:
    landmarks = draw(400, NUM_LANDMARKS, 2, seed=0)
    codes = torch.cat([*describe(landmarks), draw(400, 12, seed=1)], dim=1)
    told = ToldLandmarks(codes.shape[1])
    told.fit(codes, landmarks)
    assert told(codes, landmarks) < 0.1
    told.fit(draw(*codes.shape, seed=2), landmarks)
    assert told(draw(*codes.shape, seed=3), landmarks) > 0.9  # a share of the variance


def test_lips_count_as_one_by_what_moves_most() -> None:
    landmarks = 0.01 * draw(400, NUM_LANDMARKS, 2, seed=0) + draw(1, NUM_LANDMARKS, 2, seed=1)
    landmarks[:, PARTS["middle lips"], 1] += draw(400, 1, seed=2)  # far more than all else
    told = ToldLandmarks(1)
    told.fit(draw(400, 1, seed=3), landmarks)
    without = told(draw(400, 1, seed=3), landmarks)
    told.fit(landmarks[:, PARTS["middle lips"], 1][:, :1], landmarks)
    gained = without - told(landmarks[:, PARTS["middle lips"], 1][:, :1], landmarks)
    assert gained.item() == pytest.approx(0.25, abs=0.03)  # all of the lips' share


def test_landmarks_that_were_not_found_neither_count_nor_spoil_the_others() -> None:
    landmarks = draw(64, NUM_LANDMARKS, 2, seed=0)
    landmarks[::4] = torch.nan
    codes = draw(64, 32, seed=1).requires_grad_()
    told = ToldLandmarks(32)
    told.fit(codes.detach(), landmarks)
    torch.nn.init.normal_(told.tell.weight, generator=torch.Generator().manual_seed(2))
    told(codes, landmarks).backward()
    assert codes.grad is not None
    assert (codes.grad[::4] == 0).all()
    assert (codes.grad[1::4].abs().sum(dim=1) > 0).all()


def test_without_any_face_there_is_nothing_to_tell() -> None:
    told = ToldLandmarks(32)
    told.fit(draw(4, 32, seed=0), torch.full((4, NUM_LANDMARKS, 2), torch.nan))
    assert told(draw(4, 32, seed=0), torch.full((4, NUM_LANDMARKS, 2), torch.nan)) == 0
