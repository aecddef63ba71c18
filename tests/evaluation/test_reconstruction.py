import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fcvideo.clips.store import ClipStore
from fcvideo.errors import InputError
from fcvideo.evaluation import reconstruction
from fcvideo.evaluation.features import resize
from fcvideo.evaluation.reconstruction import (
    ClipPictures,
    Likeness,
    Spread,
    load_faces,
    measure_reconstruction,
    pair_up,
)
from fcvideo.faces.crop import Framing
from fcvideo.models.facecycle import normalize
from fcvideo.models.store import load_model
from tests.evaluation.stand_ins import Copier, Faces, as_model, smooth_faces

CLIPS = np.array([0, 0, 0, 0, 1, 1, 1, 2, 3, 3])
PEOPLE = np.array([0, 0, 0, 0, 0, 0, 0, 1, 2, 2])


def numbers(found: Likeness) -> tuple[float, float, float]:
    return found.l1, found.ssim, found.psnr_db


def test_pairs_are_of_one_clip_half_of_it_apart_and_no_picture_comes_twice() -> None:
    assert pair_up(CLIPS).tolist() == [[0, 2], [1, 3], [4, 5], [8, 9]]
    scattered = pair_up(np.array(["b", "a", "b", "a", "a", "b", "b"]))
    assert scattered.tolist() == [[1, 3], [0, 5], [2, 6]]


def test_under_a_limit_every_clip_has_its_turn_before_one_has_its_second() -> None:
    clips = np.repeat(np.arange(20), 10)
    some = pair_up(clips, 20)
    assert sorted(clips[some[:, 0]]) == list(range(20))
    assert pair_up(clips, 7).tolist() == pair_up(clips, 7).tolist()
    assert len(set(clips[pair_up(clips, 7)[:, 0]])) == 7


def test_a_model_that_copies_rebuilds_perfectly_and_ties_with_the_rival() -> None:
    found = measure_reconstruction(as_model(Copier()), Faces(smooth_faces(10)), CLIPS, PEOPLE)
    own, pair, rival = (found.likeness[name] for name in ("own_neutral", "pair_neutral", "pair_picture"))
    assert own.l1 == pytest.approx(0, abs=1e-6)
    assert own.ssim == pytest.approx(1, abs=1e-4)
    assert own.psnr_db > 90
    assert numbers(pair) == pytest.approx(numbers(rival))
    assert 0.05 < rival.l1 < 0.5
    assert (found.num_faces, found.num_people) == (8, 2)  # the only picture of person 1 has no pair
    assert found.spread["mean_faces"] == pytest.approx(0, abs=1e-6)
    assert found.spread["neutral_faces"] == pytest.approx(found.spread["inputs"])


def test_the_rivals_numbers_are_those_of_numpy() -> None:
    pixels = smooth_faces(2)
    rival = measure_reconstruction(as_model(Copier()), Faces(pixels), np.zeros(2), np.zeros(2)).likeness["pair_picture"]
    difference = (pixels[0] / 255.0) - (pixels[1] / 255.0)
    assert rival.l1 == pytest.approx(np.abs(difference).mean(), abs=1e-5)
    assert rival.psnr_db == pytest.approx(-10 * np.log10((difference**2).mean()), abs=1e-3)


def test_one_face_of_each_person_counts_for_the_spread() -> None:
    pixels = smooth_faces(6)
    people = np.array([0, 0, 1, 1, 0, 0])
    found = measure_reconstruction(as_model(Copier()), Faces(pixels), np.array([0, 0, 1, 1, 2, 2]), people)
    assert found.spread["inputs"] == pytest.approx((pixels[[0, 2]] / 255.0).std(axis=0).mean(), abs=1e-5)
    alone = measure_reconstruction(as_model(Copier()), Faces(pixels[:2]), np.zeros(2), np.zeros(2))
    assert alone.spread["inputs"] is None


def test_the_spread_in_pieces_is_the_spread_of_the_whole() -> None:
    faces = torch.rand(11, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    spread = Spread()
    for piece in (faces[:1], faces[1:1], faces[1:7], faces[7:]):
        spread.add(piece)
    assert spread.value() == pytest.approx(faces.double().std(dim=0, unbiased=False).mean().item())


def test_the_numbers_do_not_depend_on_the_batch(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, faces = load_model(str(tiny_model)), Faces(smooth_faces(10))
    whole = measure_reconstruction(model, faces, CLIPS, PEOPLE)
    monkeypatch.setattr(reconstruction, "CPU_BATCH_SIZE", 2)
    pieces = measure_reconstruction(model, faces, CLIPS, PEOPLE)
    for name, row in whole.likeness.items():
        assert numbers(pieces.likeness[name]) == pytest.approx(numbers(row), rel=1e-4)
    assert pieces.spread == pytest.approx(whole.spread, rel=1e-4)


def test_fid_is_measured_with_a_network_and_explained_without() -> None:
    def colors(faces: Tensor) -> np.ndarray:
        return faces.mean(dim=(2, 3)).numpy()

    arguments: tuple[Any, ...] = (as_model(Copier()), Faces(smooth_faces(10)), CLIPS, PEOPLE)
    found = measure_reconstruction(*arguments, inception=colors)
    assert found.likeness["own_neutral"].fid == pytest.approx(0, abs=1e-6)
    assert found.likeness["pair_picture"].fid is None
    assert "fid_missing" not in found.summary()
    without = measure_reconstruction(*arguments, inception="no network").summary()
    assert without["reconstruction"]["own_neutral"]["fid"] is None
    assert without["fid_missing"] == "no network"
    json.dumps(without)


def test_progress_counts_faces() -> None:
    counts: list[int] = []
    measure_reconstruction(
        as_model(Copier()), Faces(smooth_faces(10)), CLIPS, PEOPLE, limit=3, on_progress=counts.append
    )
    assert counts[-1] == 6


def test_clips_of_one_picture_are_refused() -> None:
    with pytest.raises(InputError, match="found 3 pictures, no two of one clip"):
        measure_reconstruction(as_model(Copier()), Faces(smooth_faces(3)), np.arange(3), np.arange(3))


def test_a_store_is_read_picture_by_picture(crops_file: Path) -> None:
    store = ClipStore(crops_file)
    pictures = ClipPictures(store, Framing(1.25))
    assert len(pictures) == 48
    assert pictures.clips[[0, 3, 4, 47]].tolist() == [0, 0, 1, 11]
    assert pictures.people[[0, 4, 8]].tolist() == [0, 0, 1]
    one = ClipPictures(store).image(5)
    assert one.size == (96, 96)
    images = load_faces(pictures, np.array([5]), 64)
    assert torch.equal(images, normalize(torch.tensor(resize(one, 64)).permute(2, 0, 1)[None]))


class _Store(ClipStore):
    """One clip of one picture, as prepare would have cut it."""

    def __init__(self, jpeg: bytes, side_factor: float) -> None:
        self.path, self.jpeg, self.side_factor = "faces", jpeg, side_factor
        self.persons, self.clip_lengths = np.zeros(1, np.int64), np.ones(1, np.int64)

    @property
    def metadata(self) -> dict[str, Any]:
        return {"framing": {"side_factor": self.side_factor}}

    def frames(self, clip: int, positions: Any = None) -> list[bytes]:
        return [self.jpeg]


def test_what_was_cut_wider_is_cut_to_the_models_framing(crops_file: Path) -> None:
    jpeg = ClipStore(crops_file).frames(0)[0]
    whole = np.asarray(ClipPictures(_Store(jpeg, 1.45)).image(0))
    cut = np.asarray(ClipPictures(_Store(jpeg, 1.6), Framing(0.8, (0.5, 0.25))).image(0))
    assert cut.shape == (48, 48, 3)
    assert np.array_equal(cut, whole[12:60, 24:72])
    assert np.array_equal(np.asarray(ClipPictures(_Store(jpeg, 1.25), Framing(1.45)).image(0)), whole)


def test_a_damaged_picture_is_named() -> None:
    with pytest.raises(InputError, match="faces: picture 0 of clip 0 cannot be read"):
        ClipPictures(_Store(b"no jpeg", 1.45)).image(0)
