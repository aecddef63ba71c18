"""Each loss against a naive version in float64."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from fcvideo.training import losses


def pictures(seed: int, *shape: int) -> tuple[Tensor, np.ndarray]:
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return x, x.double().numpy()


def naive_gram(features: np.ndarray) -> np.ndarray:
    channels, height, width = features.shape
    gram = np.zeros((channels, channels))
    for i in range(channels):
        for j in range(channels):
            gram[i, j] = sum(features[i, y, x] * features[j, y, x] for y in range(height) for x in range(width))
    return gram / (height * width)


def test_l1() -> None:
    (x, nx), (y, ny) = pictures(0, 2, 3, 4, 5), pictures(1, 2, 3, 4, 5)
    assert losses.l1(x, y).item() == pytest.approx(np.abs(nx - ny).mean(), rel=1e-6)


def test_feature_distance_is_the_root_mean_square_of_each_picture() -> None:
    (x, nx), (y, ny) = pictures(0, 3, 4, 5, 6), pictures(1, 3, 4, 5, 6)
    expected = np.mean([math.sqrt(((a - b) ** 2).sum() / a.size) for a, b in zip(nx, ny, strict=True)])
    assert losses.feature_distance(x, y).item() == pytest.approx(expected, rel=1e-5)


def test_gram_distances() -> None:
    (x, nx), (y, ny) = pictures(0, 2, 3, 4, 5), pictures(1, 2, 3, 4, 5)
    differences = [naive_gram(a) - naive_gram(b) for a, b in zip(nx, ny, strict=True)]
    assert torch.allclose(losses.gram(x)[0].double(), torch.from_numpy(naive_gram(nx[0])), atol=1e-5)
    root = np.mean([math.sqrt((d**2).mean()) for d in differences])
    assert losses.gram_distance(x, y).item() == pytest.approx(root, rel=1e-5)
    assert losses.gram_squared(x, y).item() == pytest.approx(np.mean([(d**2).mean() for d in differences]), rel=1e-5)


def naive_ssim(x: np.ndarray, y: np.ndarray) -> float:
    """One channel: a Gaussian window at every pixel, what lies outside is zero."""
    weights = np.array([[math.exp(-(i * i + j * j) / (2 * 1.5**2)) for j in range(-5, 6)] for i in range(-5, 6)])
    weights /= weights.sum()
    height, width = x.shape
    a, b = np.pad(x, 5), np.pad(y, 5)
    values = []
    for i in range(height):
        for j in range(width):
            u, v = a[i : i + 11, j : j + 11], b[i : i + 11, j : j + 11]
            mu, mv = (weights * u).sum(), (weights * v).sum()
            uu, vv = (weights * u * u).sum() - mu * mu, (weights * v * v).sum() - mv * mv
            uv = (weights * u * v).sum() - mu * mv
            top = (2 * mu * mv + 1e-4) * (2 * uv + 9e-4)
            values.append(top / ((mu * mu + mv * mv + 1e-4) * (uu + vv + 9e-4)))
    return float(np.mean(values))


def test_ssim() -> None:
    (x, nx), (y, ny) = pictures(0, 2, 2, 14, 16), pictures(1, 2, 2, 14, 16)
    expected = [np.mean([naive_ssim(nx[b, c], ny[b, c]) for c in range(2)]) for b in range(2)]
    assert losses.ssim(x, y).tolist() == pytest.approx(expected, abs=1e-5)
    assert losses.ssim_loss(x, y).item() == pytest.approx(1 - np.mean(expected), abs=1e-5)
    assert losses.ssim_loss(x, x).item() == pytest.approx(0, abs=1e-5)


def test_symmetry() -> None:
    x, nx = pictures(0, 2, 3, 4, 6)
    total = [
        abs(nx[b, c, i, j] - nx[b, c, i, 5 - j]) for b in range(2) for c in range(3) for i in range(4) for j in range(3)
    ]
    assert losses.symmetry(x).item() == pytest.approx(np.mean(total), rel=1e-6)
    assert losses.symmetry(x + x.flip(-1)).item() == pytest.approx(0, abs=1e-6)


def test_margin_has_a_hinge_and_the_released_one_has_none() -> None:
    mean, neutral = torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4)
    neutral[0] += 0.5  # 0.4 beyond the margin; the other picture is within
    assert losses.margin(mean, neutral).item() == pytest.approx(0.4 / 2)
    assert losses.margin_without_hinge(mean, neutral).item() == pytest.approx(0.25 - 0.1)


def test_equal_pictures_have_finite_gradients() -> None:
    x = torch.randn(2, 3, 16, 16, requires_grad=True)
    y = x.detach().clone()
    total = losses.feature_distance(x, y) + losses.gram_distance(x, y) + losses.ssim_loss(x, y) + losses.l1(x, y)
    total.backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


def test_the_loss_of_a_batch_is_the_mean_over_its_halves() -> None:
    x, y = torch.randn(4, 3, 16, 16), torch.randn(4, 3, 16, 16)
    for loss in (
        losses.l1,
        losses.feature_distance,
        losses.gram_distance,
        losses.gram_squared,
        losses.ssim_loss,
        losses.margin,
    ):
        halves = (loss(x[:2], y[:2]) + loss(x[2:], y[2:])) / 2
        assert loss(x, y).item() == pytest.approx(halves.item(), rel=1e-5)


def test_l1_where_is_the_mean_over_places_that_count() -> None:
    (x, nx), (y, ny) = pictures(0, 3, 3, 4, 5), pictures(1, 3, 3, 4, 5)
    where = torch.rand(3, 1, 4, 5, generator=torch.Generator().manual_seed(2))
    where[2] = 0
    weights = np.broadcast_to(where.double().numpy(), nx.shape)
    expected = sum(np.average(np.abs(nx[i] - ny[i]), weights=weights[i]) for i in range(2)) / 3
    assert losses.l1_where(x, y, where).item() == pytest.approx(expected, rel=1e-5)


def moves(*shifts: tuple[float, float]) -> Tensor:
    """Forward flows (B, 2, 16, 16): each face is its neutral face moved as a whole."""
    return torch.tensor(shifts)[:, :, None, None].expand(-1, -1, 16, 16).contiguous()


def test_landmarks_that_flows_carry_where_the_pair_has_them_cost_nothing() -> None:
    neutral = 0.5 * torch.rand(1, 7, 2, generator=torch.Generator().manual_seed(0)) - 0.25
    shifts = ((0.1, -0.05), (-0.2, 0.1))
    landmarks = neutral + torch.tensor(shifts)[:, None]
    assert losses.carried(moves(*shifts), landmarks).item() == pytest.approx(0, abs=1e-6)
    still = losses.carried(moves((0, 0), (0, 0)), landmarks).item()
    assert still == pytest.approx(math.hypot(0.3, 0.15), rel=1e-5)  # what the pair moved by


def test_landmarks_are_carried_through_flows_that_stretch() -> None:
    """A face half as large as its neutral face, and its pair as large as that."""
    place = torch.linspace(-1, 1, 16)
    shrink = -0.5 * torch.stack(torch.meshgrid(place, place, indexing="xy"))[None]
    neutral = torch.rand(1, 7, 2, generator=torch.Generator().manual_seed(0)) - 0.5
    landmarks = torch.cat([0.5 * neutral, neutral])
    flows = torch.cat([shrink, torch.zeros_like(shrink)])
    assert losses.carried(flows, landmarks).item() < 0.03
    assert losses.carried(torch.zeros_like(flows), landmarks).item() > 0.1


def test_flows_that_are_not_numbers_give_a_loss_that_is_none() -> None:
    flows = moves((math.nan, 0), (0, 0)).requires_grad_()
    loss = losses.carried(flows, torch.zeros(2, 7, 2))
    loss.backward()
    assert loss.isnan()


def test_unknown_landmarks_cost_nothing_and_spoil_no_gradient() -> None:
    flows = moves((0.1, 0), (0, 0), (0.1, 0), (0, 0.2)).requires_grad_()
    landmarks = torch.zeros(4, 7, 2)
    landmarks[0] = torch.nan
    loss = losses.carried(flows, landmarks)
    loss.backward()
    assert loss.item() == pytest.approx(0.2 * 2 / 4, rel=1e-5)  # the second pair alone, both ways
    assert flows.grad is not None
    assert flows.grad[[0, 2]].abs().max() == 0
    assert flows.grad[[1, 3]].abs().sum() > 0
