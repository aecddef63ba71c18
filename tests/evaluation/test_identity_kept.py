import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from fcvideo.errors import InputError
from fcvideo.evaluation.features import Pixels, make_features
from fcvideo.evaluation.identity_kept import generate, measure_identity_kept
from fcvideo.evaluation.pictures import PairSet, Pictures
from fcvideo.models.facecycle import denormalize, normalize_unit
from fcvideo.models.store import load_model
from tests.evaluation.stand_ins import Copier, as_model, smooth_faces


class Mover(Copier):
    """A model whose motion is a change of brightness."""

    def neutral_face(self, images: Tensor, forward: Tensor) -> Tensor:
        return images - forward[:, :, None, None]

    def re_express(self, neutral: Tensor, backward: Tensor) -> Tensor:
        return neutral + backward[:, :, None, None]


class Eraser(Copier):
    """A model for which all neutral faces are one."""

    def neutral_face(self, images: Tensor, forward: Tensor) -> Tensor:
        return normalize_unit(torch.linspace(0, 1, images.shape[-1]).expand_as(images))


@pytest.fixture
def pairs() -> PairSet:
    """20 persons of two pictures each; as many pairs of one as of two."""
    people = smooth_faces(20)
    again = (people * 0.8 + smooth_faces(20, seed=1) * 0.2).astype(np.uint8)
    pictures = Pictures([str(i) for i in range(40)], [*people, *again])
    person = np.arange(20)
    return PairSet(
        pictures,
        first=np.concatenate([person, person]),
        second=np.concatenate([person + 20, (person + 7) % 20]),
        same=np.arange(40) < 20,
        folds=np.tile(np.arange(10), 4),
    )


def test_a_model_that_copies_keeps_every_identity(pairs: PairSet) -> None:
    result = measure_identity_kept(as_model(Copier()), pairs, [Pixels()])["pixels"]
    assert result.real.accuracy_percent == 100
    for kept in result.generated.values():
        assert (kept.kept_percent, kept.other_percent) == (100, 0)
        assert kept.mean_cosine == pytest.approx(1, abs=1e-3)
        assert kept.other_cosine < result.real.threshold
    summary = result.summary()
    assert summary["accuracy_percent"] == 100
    assert summary["reenacted_kept_percent"] == 100
    json.dumps(summary)


def test_a_model_that_draws_one_face_for_all_loses_them(pairs: PairSet) -> None:
    kept = measure_identity_kept(as_model(Eraser()), pairs, [Pixels()])["pixels"].generated["frontalised"]
    assert kept.kept_percent <= 50
    assert abs(kept.mean_cosine - kept.other_cosine) < 0.05


def test_the_expression_is_the_second_halfs() -> None:
    images = normalize_unit(torch.rand(6, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 0.2 + 0.4)
    neutral, reenacted = generate(as_model(Mover()), images)
    means = images.mean(dim=(2, 3), keepdim=True)
    assert torch.allclose(neutral, denormalize(images[:3] - means[:3]), atol=1e-5)
    assert torch.allclose(reenacted, denormalize(images[:3] - means[:3] + means[3:]), atol=1e-5)


def test_a_limit_spreads_over_the_pairs_and_several_features_judge(pairs: PairSet, tiny_model: Path) -> None:
    model = load_model(str(tiny_model))
    features = make_features(["identity", "expression", "pixels"], model, "cpu")
    counts: list[int] = []
    found = measure_identity_kept(model, pairs, features, limit=3, on_progress=counts.append)
    assert list(found) == ["identity", "expression", "pixels"]
    assert counts[-1] == 40
    thirds = {k.kept_percent for result in found.values() for k in result.generated.values()}
    assert all(min(abs(share - 100 * n / 3) for n in range(4)) < 1e-6 for share in thirds)


def test_pairs_of_one_kind_are_refused(pairs: PairSet) -> None:
    alike = PairSet(pairs.pictures, pairs.first[:20], pairs.second[:20], pairs.same[:20], pairs.folds[:20])
    with pytest.raises(InputError, match="none of different persons"):
        measure_identity_kept(as_model(Copier()), alike, [Pixels()])
