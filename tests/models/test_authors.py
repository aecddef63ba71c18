"""A file of the authors' form: their five state dicts, their names, the published shapes, random weights."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from fcvideo.errors import ModelError
from fcvideo.models.authors import import_authors_checkpoint
from fcvideo.models.store import load_model, save_model

Shapes = dict[str, tuple[int, ...]]


def conv(name: str, inside: int, outside: int, kernel: int = 3, bias: bool = True) -> Shapes:
    shapes: Shapes = {f"{name}.weight": (outside, inside, kernel, kernel)}
    return shapes | ({f"{name}.bias": (outside,)} if bias else {})


def up(name: str, inside: int, outside: int) -> Shapes:
    return {f"{name}.weight": (inside, outside, 4, 4), f"{name}.bias": (outside,)}


def attention(name: str, channels: int) -> Shapes:
    return {k: v for part in ("g", "theta", "phi") for k, v in conv(f"{name}.{part}", channels, channels, 1).items()}


def block(name: str, channels: int) -> Shapes:
    return conv(f"{name}.conv1", channels, channels) | conv(f"{name}.conv2", channels, channels)


def encoder() -> Shapes:
    return (
        conv("conv1.0", 3, 64, 7)
        | conv("conv1.2", 64, 64)
        | conv("layer1.0", 64, 64)
        | attention("layer1.2", 64)
        | conv("layer1.3", 64, 64)
        | conv("layer2_1.0", 64, 128)
        | attention("layer2_1.2", 128)
        | conv("layer2_1.3", 128, 128)
        | block("resblock1", 128)
        | block("resblock2", 128)
        | conv("layer2_2.0", 128, 128)
        | conv("layer2_2.2", 128, 128)
        | conv("layer3_1.0", 128, 256)
        | conv("layer3_1.2", 256, 256)
        | conv("layer3_2.0", 256, 256)
        | conv("layer3_2.2", 256, 128)
        | {"expresscode.0.weight": (512, 2048), "expresscode.0.bias": (512,)}
        | {"expresscode.2.weight": (256, 512), "expresscode.2.bias": (256,)}
    )


def flow() -> Shapes:
    return (
        conv("motiongen1.0", 256, 4096, 1)
        | attention("motiongen1.3", 256)
        | conv("motiongen1.4", 256, 256)
        | conv("motiongen2.1", 256, 128)
        | attention("motiongen2.3", 128)
        | conv("motiongen2.4", 128, 128)
        | block("resblock1", 128)
        | block("resblock2", 128)
        | conv("toflow4.1", 128, 64)
        | conv("toflow4.2", 64, 2, 1, bias=False)
    )


def stem() -> Shapes:
    widths = {"1_1": (3, 64), "1_2": (64, 64), "2_1": (64, 128), "2_2": (128, 128), "3_1": (128, 256)}
    return {k: v for name, (a, b) in widths.items() for k, v in conv(f"conv{name}.0", a, b).items()}


def expression_decoder() -> Shapes:
    blocks = {k: v for i in range(8) for k, v in block(f"cnn.{i}", 256).items()}
    noise = {
        k: v
        for i, width in ((1, 128), (0, 256))
        for layer in (0, 2)
        for k, v in conv(f"noise_encoding{i}.{layer}", width, width).items()
    }
    return (
        stem()
        | conv("redconv.0", 256, 256)
        | blocks
        | up("up.0", 256, 128)
        | conv("up.2", 128, 128)
        | up("up2.0", 256, 128)
        | conv("up2.2", 128, 128)
        | conv("torgb", 128, 3)
        | noise
    )


def identity_decoder() -> Shapes:
    blocks = {k: v for i in range(6) for k, v in block(f"cnn.{i}", 256).items()}
    modulations = {
        k: v
        for name in ("denorm", "renorm")
        for part in ("beta", "gamma")
        for k, v in conv(f"{name}.{part}", 256, 256, 1).items()
    }
    return (
        stem()
        | modulations
        | blocks
        | block("cnn3.0", 256)
        | up("up.0", 256, 128)
        | conv("up.2", 128, 128)
        | up("up.4", 128, 128)
        | conv("torgb", 128, 3, 1)
    )


@pytest.fixture(scope="module")
def checkpoint() -> dict[str, dict[str, Tensor]]:
    networks = {
        "codegeneration": encoder(),
        "exptoflow": flow(),
        "Swap_Generator": expression_decoder(),
        "idcodegen": encoder(),
        "Swap_Norm": identity_decoder(),
    }
    generator = torch.Generator().manual_seed(0)
    made = {
        network: {key: torch.randn(shape, generator=generator) * 0.01 for key, shape in shapes.items()}
        for network, shapes in networks.items()
    }
    for key in stem():  # both decoders hold the same frozen VGG
        made["Swap_Norm"][key] = made["Swap_Generator"][key]
    return made


def test_every_tensor_of_the_authors_finds_its_place(checkpoint: dict[str, dict[str, Tensor]], tmp_path: Path) -> None:
    torch.save(checkpoint, tmp_path / "final.tar")
    model = import_authors_checkpoint(tmp_path / "final.tar")
    assert torch.equal(model.expression_encoder.head[2].weight, checkpoint["codegeneration"]["expresscode.2.weight"])
    assert torch.equal(model.identity_encoder.stage4[3].conv2.bias, checkpoint["idcodegen"]["resblock1.conv2.bias"])
    assert torch.equal(model.flow_decoder.to_flow.weight, checkpoint["exptoflow"]["toflow4.2.weight"])
    assert torch.equal(model.identity_decoder.blocks[6].conv1.weight, checkpoint["Swap_Norm"]["cnn3.0.conv1.weight"])
    assert torch.equal(model.identity_decoder.re_identity.scale.weight, checkpoint["Swap_Norm"]["renorm.gamma.weight"])
    assert torch.equal(model.expression_decoder.up2[0][0].weight, checkpoint["Swap_Generator"]["up2.0.weight"])
    save_model(model, tmp_path / "model")
    with torch.no_grad():
        embedding = load_model(str(tmp_path / "model")).embed(torch.randn(1, 3, 64, 64))
    assert torch.isfinite(embedding.expression).all()


def test_names_of_data_parallel_are_understood(checkpoint: dict[str, dict[str, Tensor]], tmp_path: Path) -> None:
    wrapped = {name: {f"module.{k}": v for k, v in state.items()} for name, state in checkpoint.items()}
    torch.save(wrapped, tmp_path / "final.tar")
    import_authors_checkpoint(tmp_path / "final.tar")


def test_what_is_missing_or_odd_is_named(checkpoint: dict[str, dict[str, Tensor]], tmp_path: Path) -> None:
    file = tmp_path / "final.tar"
    torch.save({k: v for k, v in checkpoint.items() if k != "Swap_Norm"}, file)
    with pytest.raises(ModelError, match=r"final\.tar: no 'Swap_Norm'"):
        import_authors_checkpoint(file)
    torch.save(checkpoint | {"exptoflow": checkpoint["exptoflow"] | {"extra.weight": torch.zeros(1)}}, file)
    with pytest.raises(ModelError, match=r"'extra\.weight'"):
        import_authors_checkpoint(file)
    short = {k: v for k, v in checkpoint["exptoflow"].items() if k != "toflow4.2.weight"}
    torch.save(checkpoint | {"exptoflow": short}, file)
    with pytest.raises(ModelError, match=r"flow_decoder\.to_flow\.weight"):
        import_authors_checkpoint(file)
    file.write_bytes(b"not a checkpoint")
    with pytest.raises(ModelError, match="not a torch checkpoint"):
        import_authors_checkpoint(file)
