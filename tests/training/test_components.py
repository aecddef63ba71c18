import pytest
import torch
from torch import Tensor

from fcvideo.models.encoder import BESIDE_SCALE, STEM_WIDTH, StemEncoder, pool
from fcvideo.training.components import CODE_DEVIATION, FaceComponents, condense

NUM_FACES, NUM_WAYS = 200, 6
READS = pytest.mark.parametrize("reads_detector", [False, True])


@pytest.fixture(scope="module")
def views() -> tuple[Tensor, Tensor]:
    """What an encoder reads (200, 640, 8, 8) of two views of faces, which differ less than the views do."""
    generator = torch.Generator().manual_seed(0)
    of_faces, of_views = (torch.randn(NUM_WAYS, 640, 8, 8, generator=generator) for _ in range(2))
    faces = torch.randn(NUM_FACES, NUM_WAYS, generator=generator)
    first, second = (
        torch.einsum("nk,kchv->nchv", faces, of_faces)
        + torch.einsum("nk,kchv->nchv", 3 * torch.randn(NUM_FACES, NUM_WAYS, generator=generator), of_views)
        + 1
        for _ in range(2)
    )
    return first, second


def condensed(read: Tensor, reads_detector: bool) -> Tensor:
    return condense(read[:, :STEM_WIDTH], read[:, STEM_WIDTH:] if reads_detector else None)


def fitted(views: tuple[Tensor, Tensor], num: int, reads_detector: bool) -> FaceComponents:
    components = FaceComponents(width=16, num=num, reads_detector=reads_detector)
    components.fit(*(condensed(view, reads_detector) for view in views))
    return components


@READS
def test_components_are_uncorrelated_and_vary_by_1(views: tuple[Tensor, Tensor], reads_detector: bool) -> None:
    components = fitted(views, NUM_WAYS, reads_detector)
    found = torch.cat([components(condensed(view, reads_detector)) for view in views])
    assert found.shape == (2 * NUM_FACES, NUM_WAYS)
    assert torch.allclose(torch.cov(found.T), torch.eye(NUM_WAYS), atol=1e-3)
    assert found.mean(dim=0).abs().max() < 1e-3


@READS
def test_two_views_of_a_face_have_the_same_components(views: tuple[Tensor, Tensor], reads_detector: bool) -> None:
    """Though the views' differences are most of what the features hold."""
    components = fitted(views, NUM_WAYS, reads_detector)
    first, second = (components(condensed(view, reads_detector)) for view in views)
    assert (first - second).square().mean() < 0.1
    assert (views[0] - views[1]).var() > views[0].var()


def test_what_few_faces_cannot_give_stays_zero(views: tuple[Tensor, Tensor]) -> None:
    few = views[0][:4], views[1][:4]
    components = fitted(few, 40, reads_detector=True)
    found = components(condensed(few[0], True))
    assert found.isfinite().all()
    assert (components.directions == 0).all(dim=1).sum() >= 40 - 8
    assert found.abs().max() < 10


@READS
def test_an_encoder_starts_at_the_components(views: tuple[Tensor, Tensor], reads_detector: bool) -> None:
    components = fitted(views, 2 * NUM_WAYS, reads_detector)  # of more than it has numbers, the first
    encoder = StemEncoder(16, 16, 16, code_dim=NUM_WAYS, image_side=64, reads_detector=reads_detector)
    components.start(encoder)
    read = views[0] if reads_detector else views[0][:, :STEM_WIDTH]
    with torch.no_grad():
        expected = CODE_DEVIATION * components(condensed(views[0], reads_detector))[:, :NUM_WAYS]
        assert torch.allclose(torch.atanh(encoder(read)), expected, atol=2e-3)
        assert torch.equal(encoder.feature_map(read), pool(encoder.project(read[:, :STEM_WIDTH])))
    if encoder.beside is not None:
        assert encoder.beside.straight.weight.abs().max() * BESIDE_SCALE > 0
