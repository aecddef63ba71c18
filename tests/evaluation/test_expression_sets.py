from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fcvideo.errors import InputError, SettingsError
from fcvideo.evaluation.expression_sets import read_expression_sets, read_labelled_rows
from tests.evaluation.datasets import jpeg, values_of, write_csv, write_jpeg, write_parquet


def test_fer2013_csv_splits_by_usage(tmp_path: Path) -> None:
    def row(emotion: int, value: int, usage: str) -> tuple[int, str, str]:
        return emotion, " ".join([str(value)] * 48 * 48), usage

    path = write_csv(
        tmp_path / "fer2013.csv",
        ("emotion", "pixels", "Usage"),
        [row(3, 10, "Training"), row(0, 20, "Training"), row(3, 30, "PublicTest"), row(0, 40, "PrivateTest")],
    )
    train, test = read_expression_sets(path, None)
    assert train.classes == test.classes == ("angry", "happy")
    assert values_of(train.pictures) == [10, 20]
    assert train.labels.tolist() == [1, 0]
    assert values_of(test.pictures) == [40]
    assert test.labels.tolist() == [0]
    assert train.pictures.image(0).size == (48, 48)


def test_a_split_given_alone_is_taken_whole(tmp_path: Path) -> None:
    pixels = " ".join(["7"] * 4)
    train = write_csv(tmp_path / "train.csv", ("emotion", "pixels"), [(3, pixels), (4, pixels)])
    test = write_csv(tmp_path / "t.csv", ("emotion", "pixels", "Usage"), [(3, pixels, "PublicTest")])
    assert [len(part.labels) for part in read_expression_sets(train, test)] == [2, 1]


def test_wrong_pixels_are_named(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "fer.csv", ("emotion", "pixels"), [(3, "1 2 3")])
    with pytest.raises(InputError, match=r"fer\.csv: row 0: found 3 pixels"):
        read_labelled_rows(path)
    path = write_csv(tmp_path / "fer.csv", ("emotion", "pixels"), [(3, "1 2 3 300")])
    with pytest.raises(InputError, match="from 0 to 255"):
        read_labelled_rows(path)
    path = write_csv(tmp_path / "fer.csv", ("emotion", "pixels"), [(9, "1 2 3 4")])
    with pytest.raises(InputError, match="column emotion: found 9, expected 0 to 6"):
        read_labelled_rows(path)


def test_folders_per_class(tmp_path: Path) -> None:
    for split, value in (("train", 10), ("test", 100)):
        write_jpeg(tmp_path / split / "happy" / "1.jpg", value)
        write_jpeg(tmp_path / split / "angry" / "deeper" / "2.png", value + 20)
    (tmp_path / "train" / "happy" / "Thumbs.db").write_bytes(b"no picture")
    train, test = read_expression_sets(tmp_path, None)
    assert train.classes == ("angry", "happy")
    assert values_of(train.pictures) == [30, 10]
    assert values_of(test.pictures) == [120, 100]
    assert test.labels.tolist() == [0, 1]
    pair = read_expression_sets(tmp_path / "train", tmp_path / "test")
    assert [values_of(part.pictures) for part in pair] == [[30, 10], [120, 100]]


def test_tables_of_jpeg_and_label(tmp_path: Path) -> None:
    train = write_parquet(
        tmp_path / "a.parquet", {"jpeg": [jpeg(50), jpeg(60)], "label": [2, 10], "person": ["p", "q"]}
    )
    test = write_csv(tmp_path / "b.csv", ("path", "label"), [("faces/1.jpg", 10)])
    write_jpeg(tmp_path / "faces" / "1.jpg", 90)
    train_set, test_set = read_expression_sets(train, test)
    assert train_set.classes == ("2", "10")
    assert train_set.groups is not None
    assert train_set.groups.tolist() == ["/p", "/q"]
    assert test_set.labels.tolist() == [1]
    assert values_of(test_set.pictures) == [90]


def test_raf_db(tmp_path: Path) -> None:
    labels = tmp_path / "basic" / "EmoLabel" / "list_patition_label.txt"
    labels.parent.mkdir(parents=True)
    labels.write_text("train_00001.jpg 5\ntest_0001.jpg 4\ntrain_00002.jpg 4\n")
    for name, value in (("train_00001", 10), ("test_0001", 20), ("train_00002", 30)):
        write_jpeg(tmp_path / "basic" / "Image" / "aligned" / f"{name}_aligned.jpg", value)
    for place in (tmp_path, tmp_path / "basic", labels):
        train, test = read_expression_sets(place, None)
        assert train.classes == ("happy", "sad")
        assert values_of(train.pictures) == [10, 30]
        assert train.labels.tolist() == [1, 0]
        assert values_of(test.pictures) == [20]


def test_affectnet_folders(tmp_path: Path) -> None:
    for split, number, expression in (("train_set", 0, 1), ("train_set", 3, 7), ("train_set", 5, 9), ("val_set", 0, 1)):
        write_jpeg(tmp_path / split / "images" / f"{number}.jpg", 10 * number)
        annotations = tmp_path / split / "annotations"
        annotations.mkdir(exist_ok=True)
        np.save(annotations / f"{number}_exp.npy", np.array(str(expression)))
    train, test = read_expression_sets(tmp_path, None)
    assert train.classes == ("contempt", "happy")
    assert train.labels.tolist() == [1, 0]
    assert len(test.labels) == 1


def test_affectnet_csv_takes_whole_pictures_of_known_expression(tmp_path: Path) -> None:
    header = ("subDirectory_filePath", "face_x", "expression", "valence")
    path = write_csv(
        tmp_path / "training.csv", header, [("1/a.jpg", 3, 1, 0.5), ("1/b.jpg", 3, 10, -2), ("2/c.jpg", 3, 0, 0)]
    )
    for name, value in (("1/a.jpg", 10), ("2/c.jpg", 30)):
        write_jpeg(tmp_path / "Manually_Annotated_Images" / name, value)
    rows = read_labelled_rows(path)
    assert list(rows.labels) == ["happy", "neutral"]
    assert values_of(rows.pictures) == [10, 30]
    assert not rows.pictures.are_crops


def test_a_missing_test_split_is_asked_for(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", {"jpeg": [jpeg(50)], "label": ["a"]})
    with pytest.raises(SettingsError, match="--test: not given"):
        read_expression_sets(path, None)


def test_other_labels_are_refused(tmp_path: Path) -> None:
    train = write_parquet(tmp_path / "a.parquet", {"jpeg": [jpeg(50)], "label": ["happy"]})
    test = write_parquet(tmp_path / "b.parquet", {"jpeg": [jpeg(50)], "label": ["3"]})
    with pytest.raises(InputError, match=r"labels: found 3 in .*expected the same in both"):
        read_expression_sets(train, test)


def test_what_is_no_data_set_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere: no such file or folder"):
        read_labelled_rows(tmp_path / "nowhere")
    with pytest.raises(InputError, match="found no pictures with labels"):
        read_labelled_rows(tmp_path)
    table = write_parquet(tmp_path / "a.parquet", {"label": ["a"]})
    with pytest.raises(InputError, match="found columns label; expected pictures"):
        read_labelled_rows(table)
