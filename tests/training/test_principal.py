import pytest
import torch
import torch.nn.functional as F

from fcvideo.models.encoder import StemEncoder
from fcvideo.training.principal import CODE_DEVIATION, PrincipalComponents, pool


@pytest.fixture
def features() -> torch.Tensor:
    """Of 200 pictures, that differ in few ways."""
    generator = torch.Generator().manual_seed(0)
    ways = torch.randn(12, 512, 8, 8, generator=generator)
    return torch.einsum("nk,kchv->nchv", torch.randn(200, 12, generator=generator), ways) + 1


def test_components_are_uncorrelated_and_of_variance_1(features: torch.Tensor) -> None:
    components = PrincipalComponents(width=8, num=6)
    components.fit(pool(features))
    found = components(features)
    assert found.shape == (200, 6)
    assert torch.allclose(torch.cov(found.T), torch.eye(6), atol=1e-3)
    assert found.mean(dim=0).abs().max() < 1e-3


def test_an_encoder_starts_at_the_components(features: torch.Tensor) -> None:
    components = PrincipalComponents(width=8, num=6)
    components.fit(pool(features))
    encoder = StemEncoder(width=4, map_width=8, hidden=16, code_dim=6, image_side=64)
    components.start(encoder)
    with torch.no_grad():
        assert torch.allclose(torch.atanh(encoder(features)), CODE_DEVIATION * components(features), atol=1e-3)
        straight = F.adaptive_avg_pool2d(encoder.project(features), 4)
        assert torch.equal(encoder.feature_map(features), straight)
