from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fcvideo.errors import InputError, ModelError, SettingsError
from fcvideo.evaluation.features import FEATURES, EncoderPass, extract, grey, load_moco, make_features, resize
from fcvideo.models.facecycle import FaceCycle, normalize
from fcvideo.models.store import load_model, save_model
from fcvideo.training.moco import NAME, SAVED


class Faces:
    """Smooth random pictures that count how often each was asked for."""

    def __init__(self, count: int = 5, size: tuple[int, int] = (96, 96)) -> None:
        rng = np.random.default_rng(0)
        coarse = rng.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
        self.pictures = [Image.fromarray(c).resize(size, Image.Resampling.BICUBIC) for c in coarse]
        self.asked = [0] * count

    def __len__(self) -> int:
        return len(self.pictures)

    def image(self, index: int) -> Image.Image:
        self.asked[index] += 1
        return self.pictures[index]

    def at(self, side_px: int) -> np.ndarray:
        return np.stack([resize(picture, side_px) for picture in self.pictures])


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> FaceCycle:
    return load_model(str(tiny_model))


@pytest.fixture(scope="module")
def moco_folder(tmp_path_factory: pytest.TempPathFactory, model: FaceCycle) -> Path:
    folder = tmp_path_factory.mktemp("moco")
    save_model(model, folder, kind=NAME, parts=SAVED)
    return folder


@pytest.fixture(scope="module")
def resnet_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from torchvision.models import resnet18

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("resnet") / "resnet18.pth"
    torch.save(resnet18().state_dict(), path)
    return path


def test_every_feature_has_its_size(model: FaceCycle, moco_folder: Path, resnet_file: Path) -> None:
    faces = Faces()
    features = make_features(FEATURES, model, "cpu", imagenet_weights=resnet_file, moco=moco_folder)
    found = extract(faces, features, batch_size=2)
    codes, maps = model.config.code_dim, model.config.map_width * 16
    assert {name: vectors.shape[1] for name, vectors in found.items()} == {
        **{"expression": codes, "identity": codes, "map": maps, "identity-map": maps},
        **{"hog": 3240, "lbp": 1450, "pixels": 48 * 48, "imagenet": 512, "moco": codes, "moco-map": maps},
    }
    assert all(v.dtype == np.float32 and len(v) == 5 and v.std(axis=0).max() > 0 for v in found.values())
    np.testing.assert_array_equal(found["moco"], found["expression"])


def test_each_picture_is_decoded_once_and_progress_is_told() -> None:
    faces, told = Faces(), []
    extract(faces, make_features(["hog", "pixels", "lbp"], None, "cpu"), batch_size=2, on_progress=told.append)
    assert faces.asked == [1] * 5
    assert told == [2, 4, 5]


def test_model_features_are_the_encoders_own(model: FaceCycle) -> None:
    faces = Faces(20)
    found = extract(faces, make_features(["expression", "map", "identity", "identity-map"], model, "cpu"))
    images = normalize(torch.from_numpy(faces.at(64)).permute(0, 3, 1, 2))
    with torch.inference_mode():
        codes = model.embed(images, cycle_error=False)
        maps = model.expression_encoder.feature_map(images), model.identity_encoder.feature_map(images)
    np.testing.assert_allclose(found["expression"], codes.expression.numpy(), atol=1e-5)
    np.testing.assert_allclose(found["identity"], codes.identity.numpy(), atol=1e-5)
    np.testing.assert_allclose(found["map"], maps[0].flatten(1).numpy(), atol=1e-5)
    np.testing.assert_allclose(found["identity-map"], maps[1].flatten(1).numpy(), atol=1e-5)


def test_code_and_map_share_one_pass(model: FaceCycle, monkeypatch: pytest.MonkeyPatch) -> None:
    passes = []
    run = EncoderPass._run
    monkeypatch.setattr(EncoderPass, "_run", lambda self, images: (passes.append(len(images)), run(self, images))[1])
    extract(Faces(5), make_features(["expression", "map"], model, "cpu"), batch_size=3)
    assert passes == [3, 2]


def test_extraction_repeats_bit_for_bit(model: FaceCycle) -> None:
    features = make_features(["expression", "map", "hog", "lbp"], model, "cpu")
    first, second = (extract(Faces(), features, batch_size=2) for _ in range(2))
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])


def test_lbp_counts_are_those_of_a_loop() -> None:
    from skimage.feature import local_binary_pattern

    image = Faces(1).at(100)
    (feature,) = make_features(["lbp"], None, "cpu")
    codes = local_binary_pattern(grey(image)[0], 8, 1, "nri_uniform")
    expected = [
        [np.mean(codes[row : row + 20, column : column + 20] == code) for code in range(58)]
        for row in range(0, 100, 20)
        for column in range(0, 100, 20)
    ]
    np.testing.assert_allclose(feature(image)[0], np.concatenate(expected), atol=1e-7)


def test_hog_sees_the_direction_of_an_edge() -> None:
    (feature,) = make_features(["hog"], None, "cpu")
    waves = (127 + 100 * np.sin(np.arange(100) / 3)).astype(np.uint8)
    upright = np.broadcast_to(waves[None, :, None], (100, 100, 3))
    both = feature(np.stack([upright, upright.transpose(1, 0, 2)])).reshape(2, -1, 10).sum(axis=1)
    assert both.argmax(axis=1).tolist() == [0, 5]


def test_grey_is_pillows_to_the_digit() -> None:
    colors = np.random.default_rng(0).integers(0, 256, (60, 70, 3), dtype=np.uint8)
    np.testing.assert_array_equal(grey(colors), np.asarray(Image.fromarray(colors).convert("L")))


def test_pictures_that_are_not_square_are_taken_whole() -> None:
    found = extract(Faces(2, (120, 90)), make_features(["pixels"], None, "cpu"))
    assert found["pixels"].shape == (2, 48 * 48)


def test_what_is_missing_is_said_in_one_line(tmp_path: Path, model: FaceCycle, resnet_file: Path) -> None:
    with pytest.raises(SettingsError, match="found 'sift', expected some of expression"):
        make_features(["sift"], model, "cpu")
    with pytest.raises(SettingsError, match="identity-map need a model"):
        make_features(["map"], None, "cpu")
    with pytest.raises(SettingsError, match="moco needs a folder"):
        make_features(["moco"], model, "cpu")
    with pytest.raises(ModelError, match=r"config\.json: found no MoCo encoder"):
        load_moco(tmp_path)
    with pytest.raises(InputError, match="no such file of resnet18"):
        make_features(["imagenet"], None, "cpu", imagenet_weights=tmp_path / "none.pth")
    (tmp_path / "text.pth").write_text("not weights")
    with pytest.raises(InputError, match="found no weights"):
        make_features(["imagenet"], None, "cpu", imagenet_weights=tmp_path / "text.pth")
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(InputError, match="found other weights"):
        make_features(["imagenet"], None, "cpu", imagenet_weights=tmp_path / "other.pth")


def test_imagenet_weights_that_cannot_be_fetched_name_the_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.models import ResNet18_Weights

    def offline(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(ResNet18_Weights, "get_state_dict", offline)
    with pytest.raises(InputError, match="--imagenet-weights FILE"):
        make_features(["imagenet"], None, "cpu")


def test_moco_weights_of_another_encoder_are_refused(moco_folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    (tmp_path / "config.json").write_text((moco_folder / "config.json").read_text())
    save_file({"stem": torch.zeros(2)}, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match="no weights for the encoder"):
        load_moco(tmp_path)


def test_a_damaged_model_and_an_empty_set_are_refused(tiny_model: Path) -> None:
    broken = load_model(str(tiny_model))
    torch.nn.init.constant_(broken.expression_encoder.head[2].bias, float("nan"))
    with pytest.raises(ModelError, match="expression: found values that are not finite"):
        extract(Faces(), make_features(["expression"], broken, "cpu"))
    with pytest.raises(InputError, match="found no pictures"):
        extract(Faces(0), make_features(["pixels"], None, "cpu"))
