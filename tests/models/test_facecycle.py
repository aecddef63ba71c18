import dataclasses

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from fcvideo.errors import ModelError
from fcvideo.models.decoders import InPainting
from fcvideo.models.facecycle import FaceCycle, FaceCycleConfig, denormalize, normalize
from fcvideo.models.layers import ChannelAttention
from fcvideo.models.warp import backward_flow, identity_grid, warp


def num_parameters(*modules: torch.nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


@pytest.fixture(scope="module")
def published() -> FaceCycle:
    torch.manual_seed(0)
    return FaceCycle(FaceCycleConfig.preset("facecycle-64")).eval()


@pytest.fixture(scope="module")
def small() -> FaceCycle:
    torch.manual_seed(0)
    return FaceCycle(FaceCycleConfig.preset("facecycle-64-small")).eval()


def test_parameter_counts_are_the_published_ones(published: FaceCycle) -> None:
    assert num_parameters(published.expression_encoder) == num_parameters(published.identity_encoder) == 4_240_000
    assert num_parameters(published.flow_decoder) == 2_996_544  # 3.00 M
    assert num_parameters(published.expression_decoder) == 12_854_147  # 12.85 M
    assert num_parameters(published.expression_decoder, published.stem) == 13_409_475  # 13.41 M
    assert num_parameters(published.identity_decoder) == 9_458_947  # 9.46 M
    assert num_parameters(published.identity_decoder, published.stem) == 10_014_275  # 10.01 M


def test_flops_are_the_published_ones(published: FaceCycle) -> None:
    def gflop(call) -> float:
        with FlopCounterMode(display=False) as counter:
            call()
        return counter.get_total_flops() / 1e9

    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        code = published.expression_encoder(image)
        flow, _ = published.flows(code)
        assert gflop(lambda: published.expression_encoder(image)) == pytest.approx(0.84, abs=0.005)
        assert gflop(lambda: published.flow_decoder(code)) == pytest.approx(0.21, abs=0.005)
        assert gflop(lambda: published.neutral_face(image, flow)) == pytest.approx(10.1, abs=0.05)
        assert gflop(lambda: published.mean_face(image, code)) == pytest.approx(6.3, abs=0.05)


@pytest.mark.parametrize("name", ["facecycle-64", "facecycle-64-small"])
def test_every_shape(name: str) -> None:
    model = FaceCycle(FaceCycleConfig.preset(name)).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expression, identity = model.encode_expression(images), model.encode_identity(images)
        forward, backward = model.flows(expression)
        neutral = model.neutral_face(images, forward)
        mean = model.mean_face(neutral, identity)
        embedding = model.embed(images)
    assert expression.shape == identity.shape == (2, 256)
    assert model.expression_encoder.feature_map(model.encoder_input(images)).flatten(1).shape == (2, 2048)
    assert forward.shape == backward.shape == (2, 2, 16, 16)
    for picture in (neutral, mean, model.re_express(neutral, backward), model.re_identify(mean, identity)):
        assert picture.shape == images.shape
    assert embedding.cycle_error is not None
    assert embedding.cycle_error.shape == (2,)
    assert expression.abs().max() <= 1


def test_an_encoder_for_128_pixels_has_the_same_map() -> None:
    images = torch.randn(1, 3, 128, 128)
    for reads in ("pixels", "conv4_1"):
        model = FaceCycle(FaceCycleConfig(image_side=128, encoders_read=reads))
        assert model.expression_encoder.feature_map(model.encoder_input(images)).shape == (1, 128, 4, 4)


def test_an_encoder_for_128_pixels_reads_the_detector_at_as_many_places() -> None:
    model = FaceCycle(FaceCycleConfig(image_side=128, encoders_read="conv4_1", reads_detector=True))
    with torch.no_grad():
        assert model.encoder_input(torch.randn(1, 3, 128, 128)).shape == (1, 640, 16, 16)
        assert model.encode_expression(torch.randn(1, 3, 128, 128)).shape == (1, 256)


def test_an_encoder_from_pixels_cannot_read_the_detector() -> None:
    with pytest.raises(ModelError, match="expected conv4_1"):
        FaceCycle(FaceCycleConfig(reads_detector=True))


def test_sizes_saved_before_there_was_a_detector_are_read() -> None:
    sizes = dataclasses.asdict(FaceCycleConfig.preset("facecycle-64"))
    del sizes["reads_detector"]
    assert FaceCycleConfig.from_dict(sizes) == FaceCycleConfig()


def test_another_image_side_is_refused() -> None:
    with pytest.raises(ModelError, match="found 96, expected 64 or 128"):
        FaceCycle(FaceCycleConfig(image_side=96))


def test_inference_is_deterministic_and_free_of_the_batch(published: FaceCycle) -> None:
    images = torch.randn(3, 3, 64, 64)
    with torch.no_grad():
        whole, again = published.embed(images), published.embed(images)
        single = published.embed(images[1:2])
    assert all(torch.equal(a, b) for a, b in zip(whole, again, strict=True))
    assert all(torch.allclose(a[1:2], b, atol=1e-5) for a, b in zip(whole, single, strict=True))


@pytest.mark.parametrize("reads", ["pixels", "conv4_1"])
def test_one_look_serves_codes_and_cycle_error(small: FaceCycle, published: FaceCycle, reads: str) -> None:
    model, images = {"pixels": published, "conv4_1": small}[reads], torch.randn(2, 3, 64, 64)
    assert model.config.encoders_read == reads
    with torch.no_grad():
        apart, shared = model.embed(images), model.embed(images, seen=model.look(images))
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(apart, shared, strict=True))


def test_training_draws_the_inpainting_noise_anew(published: FaceCycle) -> None:
    images, flow = torch.randn(1, 3, 64, 64), torch.zeros(1, 2, 16, 16)
    published.train()
    try:
        with torch.no_grad():
            assert not torch.equal(published.neutral_face(images, flow), published.neutral_face(images, flow))
    finally:
        published.eval()


@pytest.mark.parametrize("side", [16, 32])
def test_even_in_painting_equals_that_of_the_whole_map(side: int) -> None:
    torch.manual_seed(0)
    paint, features = InPainting(8, side, noise=0.0), torch.randn(2, 8, side, side)
    whole = paint.layers(features.mean((2, 3), keepdim=True).expand(-1, -1, side, side))
    assert torch.allclose(paint(features), whole, atol=1e-5)


def test_channel_attention_equals_a_naive_loop() -> None:
    torch.manual_seed(0)
    layer, x = ChannelAttention(5).double(), torch.randn(1, 5, 3, 4, dtype=torch.float64)
    g, theta, phi = (f(x)[0].reshape(5, 12) for f in (layer.g, layer.theta, layer.phi))
    expected = torch.empty(5, 12, dtype=torch.float64)
    theta, g = theta.exp() / theta.exp().sum(1, keepdim=True), g.exp() / g.exp().sum(0, keepdim=True)
    for i in range(5):
        for n in range(12):
            attention = sum((phi[i] * theta[j]).sum() * g[j, n] for j in range(5))
            value = x[0].reshape(5, 12)[i, n] + attention
            expected[i, n] = value if value > 0 else 0.1 * value
    assert torch.allclose(layer(x)[0].reshape(5, 12), expected)


def test_a_zero_flow_warps_nothing() -> None:
    image = torch.rand(2, 3, 64, 64)
    assert torch.allclose(warp(image, torch.zeros(2, 2, 16, 16)), image, atol=1e-5)


def test_a_flow_of_one_pixel_shifts_by_one_pixel() -> None:
    image = torch.rand(1, 3, 8, 8)
    flow = torch.zeros(1, 2, 8, 8)
    flow[:, 0] = 2 / 7  # one pixel to the right, corners aligned
    assert torch.allclose(warp(image, flow)[..., :-1], image[..., 1:], atol=1e-5)
    assert warp(image, flow)[..., -1].abs().max() < 1e-5  # zeros outside


def test_the_backward_flow_undoes_a_smooth_forward_flow_to_first_order() -> None:
    x, y = identity_grid(64, 64).unbind(-1)
    picture = (torch.sin(3 * x) * torch.cos(2 * y))[None, None]

    def error(size: float) -> float:
        flow = size * torch.stack([torch.cos(2 * x + y), torch.sin(x - 2 * y)])[None]
        there_and_back = warp(warp(picture, flow), backward_flow(flow))
        return (there_and_back - picture)[..., 8:-8, 8:-8].abs().mean().item()

    assert error(0.05) < 0.01
    assert error(0.05) < error(0.1) / 3  # what is left falls with the square of the flow


def test_normalize_and_back() -> None:
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    assert torch.equal((denormalize(normalize(images)) * 255).round().to(torch.uint8), images)
