from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fcvideo.errors import OutputError
from fcvideo.evaluation.figures import (
    FACE_PX,
    draw_confusion,
    draw_faces,
    draw_neighbours,
    draw_pose,
    draw_roc,
    nearest,
)
from fcvideo.evaluation.verification import judge
from fcvideo.models.facecycle import normalize
from fcvideo.models.store import load_model
from fcvideo.training.sheets import COLUMNS
from tests.evaluation.stand_ins import Faces, smooth_faces


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


@pytest.mark.parametrize(
    "classes", [("happy", "sad"), ("$a_1$", "<b>", "a name longer than any axis"), tuple("abcdefghijklmnopqrstu")]
)
def test_a_confusion_matrix_is_drawn_for_any_classes(classes: tuple[str, ...], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, len(classes) - 1, 50)  # the last class has no pictures
    draw_confusion(tmp_path / "figures" / "confusion.png", truth, truth[::-1], classes, "expression")
    assert len(np.unique(pixels(tmp_path / "figures" / "confusion.png").reshape(-1, 3), axis=0)) > 10
    assert [p.name for p in (tmp_path / "figures").iterdir()] == ["confusion.png"]


def test_a_roc_is_drawn_for_more_features_than_there_are_colors(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    same = np.arange(200) % 2 == 0
    results = {
        f"feature {i}": judge(rng.normal(size=200) + i * same / 4, same, np.arange(200) // 20) for i in range(10)
    }
    draw_roc(tmp_path / "roc.png", results, "pairs")
    assert pixels(tmp_path / "roc.png").shape[1] > 1000


def test_pose_is_drawn_though_an_angle_does_not_vary(tmp_path: Path) -> None:
    truth = np.random.default_rng(0).normal(size=(30, 3)) * 20
    truth[:, 2] = 0
    found = truth.copy()
    found[0] = 5000
    draw_pose(tmp_path / "pose.png", truth, found)
    assert pixels(tmp_path / "pose.png").shape[:2] == (585, 1575)


def test_the_nearest_are_those_of_a_naive_search() -> None:
    rng = np.random.default_rng(0)
    vectors, queries = rng.normal(size=(30, 4)).astype(np.float32), np.array([3, 17])
    for query, found in zip(queries, nearest(vectors, queries, 5), strict=True):
        cosine = [v @ vectors[query] / np.linalg.norm(v) for v in vectors]
        assert found.tolist() == [i for i in np.argsort(cosine)[::-1] if i != query][:5]


def test_of_each_clip_the_nearest_is_taken_and_none_of_the_querys_own() -> None:
    rng = np.random.default_rng(0)
    vectors, clips = rng.normal(size=(30, 4)), np.repeat(np.array(["a", "b", "c"]), 10)
    (found,) = nearest(vectors, np.array([12]), 5, clips)
    assert sorted(clips[found]) == ["a", "c"]
    cosine = vectors @ vectors[12] / np.linalg.norm(vectors, axis=1)
    for row in found:
        assert cosine[row] == cosine[clips == clips[row]].max()


def test_neighbours_stand_beside_their_query_pixel_by_pixel(tmp_path: Path) -> None:
    faces = smooth_faces(5, side=FACE_PX)
    found = {"expression": np.array([[1, 2]]), "identity": np.array([[3, 4]])}
    draw_neighbours(tmp_path / "n.png", Faces(faces), np.array([0]), found, np.array([0, 1, 0, 1, 1]))
    picture = pixels(tmp_path / "n.png")
    windows = np.lib.stride_tricks.sliding_window_view(picture[:, :, 0], (FACE_PX, FACE_PX))
    lefts = []
    for face in faces:
        corners = np.argwhere((windows[:, :, 0, 0] == face[0, 0, 0]) & (windows[:, :, -1, -1] == face[-1, -1, 0]))
        places = [(y, x) for y, x in corners if np.array_equal(picture[y : y + FACE_PX, x : x + FACE_PX], face)]
        assert len(places) == 1
        y, x = places[0]
        framed = tuple(picture[y - 1, x]) == (0, 158, 115)
        assert framed == (len(lefts) == 2)  # person 0's other picture
        lefts.append(x)
    assert lefts == sorted(lefts)


def test_the_sheet_has_a_row_per_face_and_a_column_per_step(tiny_model: Path, tmp_path: Path) -> None:
    images = normalize(torch.from_numpy(smooth_faces(4)).permute(0, 3, 1, 2))
    draw_faces(tmp_path / "faces.png", load_model(str(tiny_model)), images, "tiny")
    picture = pixels(tmp_path / "faces.png")
    assert picture.shape[0] > 4 * 128
    assert picture.shape[1] > len(COLUMNS) * 128
    inputs = [
        np.asarray(Image.fromarray(face).resize((128, 128), Image.Resampling.BICUBIC)) for face in smooth_faces(4)
    ]
    tops = []
    for face in inputs:
        column = picture[:, 10:138].astype(int)
        errors = [np.abs(column[y : y + 128] - face).mean() for y in range(len(column) - 127)]
        assert min(errors) < 2
        tops.append(int(np.argmin(errors)))
    assert np.argsort(tops).tolist() == [0, 2, 1, 3]  # pairs together


def test_a_folder_that_refuses_is_named(tmp_path: Path) -> None:
    (tmp_path / "pose.png").mkdir()
    with pytest.raises(OutputError, match=r"pose\.png: cannot be written"):
        draw_pose(tmp_path / "pose.png", np.zeros((2, 3)), np.zeros((2, 3)))
