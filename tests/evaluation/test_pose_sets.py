from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.io
from scipy.spatial.transform import Rotation

from fcvideo.errors import InputError, SettingsError
from fcvideo.evaluation.pose_sets import holds_angles, read_pose_rows, read_pose_sets
from tests.evaluation.datasets import jpeg, values_of, write_csv, write_jpeg, write_parquet


def test_rows_without_angles_are_skipped_and_counted(tmp_path: Path) -> None:
    angles = {"yaw_deg": [1.0, None, 3.0], "pitch_deg": [4.0, 5.0, 6.0], "roll_deg": [7.0, 8.0, 9.0]}
    path = write_parquet(tmp_path / "a.parquet", {"jpeg": [jpeg(10), jpeg(20), jpeg(30)], **angles})
    train, test = read_pose_sets(path, path)
    np.testing.assert_array_equal(train.angles_deg, [[1, 4, 7], [3, 6, 9]])
    assert values_of(test.pictures) == [10, 30]
    assert train.num_skipped == 1
    assert train.pictures.are_crops


def test_csv_of_paths_with_splits(tmp_path: Path) -> None:
    header = ("path", "yaw_deg", "pitch_deg", "roll_deg", "split", "person")
    rows = [("a.jpg", 1, 2, 3, "train", "p"), ("b.jpg", 4, 5, 6, "test", "q")]
    path = write_csv(tmp_path / "pose.csv", header, rows)
    write_jpeg(tmp_path / "a.jpg", 10)
    write_jpeg(tmp_path / "b.jpg", 20)
    train, test = read_pose_sets(path, None)
    assert values_of(train.pictures) == [10]
    assert test.angles_deg.tolist() == [[4, 5, 6]]


def test_aflw2000_and_300w_lp(tmp_path: Path) -> None:
    for name, pose in (("AFW/one", (0.1, -0.2, 0.3)), ("AFW/far", (0.1, 2.0, 0.3)), ("landmarks/one_pts", (9, 9, 9))):
        write_jpeg(tmp_path / f"{name}.jpg", 10)
        scipy.io.savemat(tmp_path / f"{name}.mat", {"Pose_Para": np.array([[*pose, 1.0, 2.0, 3.0, 0.1]])})
    (tmp_path / "landmarks" / "one_pts.jpg").unlink()
    rows = read_pose_rows(tmp_path)
    np.testing.assert_allclose(rows.angles_deg, np.degrees([[-0.2, 0.1, 0.3]]))
    assert rows.pictures.names == ["AFW/one.jpg"]
    assert not rows.pictures.are_crops
    assert rows.num_skipped == 1


def test_biwi(tmp_path: Path) -> None:
    for recording in range(1, 11):
        folder = tmp_path / f"{recording:02d}"
        write_jpeg(folder / "frame_00003_rgb.png", recording)
        turn = Rotation.from_euler("x", 10 * recording, degrees=True).as_matrix()
        lines = [" ".join(f"{value:.9f}" for value in row) for row in turn]
        (folder / "frame_00003_pose.txt").write_text("\n".join([*lines, "", "1.0 2.0 3.0", ""]))
    train, test = read_pose_sets(tmp_path, None)
    assert train.pictures.names == ["01/frame_00003_rgb.png", "02/frame_00003_rgb.png"]
    assert len(test.angles_deg) == 8
    np.testing.assert_allclose(np.abs(train.angles_deg), [[0, 10, 0], [0, 20, 0]], atol=1e-6)


def test_biwi_angles_turn_about_one_axis_each(tmp_path: Path) -> None:
    for number, axis in enumerate("yxz"):
        turn = Rotation.from_euler(axis, 25, degrees=True).as_matrix()
        write_jpeg(tmp_path / f"frame_0000{number}_rgb.png")
        (tmp_path / f"frame_0000{number}_pose.txt").write_text(" ".join(map(str, turn.ravel())) + "\n0 0 0")
    np.testing.assert_allclose(np.abs(read_pose_rows(tmp_path).angles_deg), 25 * np.eye(3), atol=1e-6)


def test_forms_are_told_apart(tmp_path: Path) -> None:
    assert not holds_angles(tmp_path)
    assert holds_angles(write_csv(tmp_path / "a.csv", ("path", "yaw_deg", "pitch_deg", "roll_deg"), []))
    assert not holds_angles(write_csv(tmp_path / "b.csv", ("path", "label"), []))


def test_what_is_no_pose_set_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found no pictures with angles"):
        read_pose_rows(tmp_path)
    path = write_parquet(tmp_path / "a.parquet", {"jpeg": [jpeg(10)], "yaw_deg": [1.0]})
    with pytest.raises(InputError, match="no column pitch_deg"):
        read_pose_rows(path)
    write_jpeg(tmp_path / "x.jpg")
    scipy.io.savemat(tmp_path / "x.mat", {"other": 1})
    with pytest.raises(InputError, match=r"x\.mat: cannot be read .*expected Pose_Para"):
        read_pose_rows(tmp_path)


def test_a_missing_test_split_is_asked_for(tmp_path: Path) -> None:
    angles = {"yaw_deg": [1.0], "pitch_deg": [4.0], "roll_deg": [7.0]}
    path = write_parquet(tmp_path / "a.parquet", {"jpeg": [jpeg(10)], **angles})
    with pytest.raises(SettingsError, match="--test: not given"):
        read_pose_sets(path, None)
