"""Data sets of head poses in the forms that people have them: 300W-LP and AFLW2000, BIWI, a table of angles.

Signs are each data set's own; train and test on sets that agree in them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.io

from fcvideo.errors import InputError
from fcvideo.evaluation.listing import Split, groups_of, is_picture, read_both, read_picture_table, rows_of_split
from fcvideo.evaluation.pictures import Pictures, PoseSet
from fcvideo.tables.columns import column_names, is_table

ANGLES = ("yaw_deg", "pitch_deg", "roll_deg")
LARGEST_DEG = 99.0  # the protocol of AFLW2000 and 300W-LP leaves out the few pictures beyond (Ruiz et al. 2018)
BIWI_POSE, BIWI_PICTURE = "_pose.txt", "_rgb.png"
BIWI_NUM_TEST = 8  # of 24 recordings; the last ones, where the protocol draws them (Yang et al. 2019)


@dataclass(frozen=True)
class PoseRows:
    pictures: Pictures
    angles_deg: np.ndarray  # (N, 3)
    num_skipped: int
    splits: Sequence[str] | None = None  # None: the data set has no splits of its own
    groups: np.ndarray | None = None  # person, clip or recording, where known


def read_pose_sets(train: Path, test: Path | None) -> tuple[PoseSet, PoseSet]:
    """Both splits: of two data sets, or of one that has them.

    Errors: InputError, SettingsError where `test` is needed.
    """
    train_rows, test_rows = read_both(read_pose_rows, train, test)
    return _choose(train_rows, "train", train), _choose(test_rows, "test", test or train)


def holds_angles(path: Path) -> bool:
    """Whether `path` is a data set of poses, by its form alone. Errors: InputError for a table that cannot be read."""
    if path.is_file() and is_table(path):
        return set(ANGLES) <= set(column_names(path))
    return path.is_dir() and any(next(path.rglob(name), None) for name in ("*.mat", f"*{BIWI_POSE}"))


def read_pose_rows(path: Path) -> PoseRows:
    """A table, a folder of .mat files beside pictures, or BIWI's folder. Errors: InputError."""
    if path.is_file() and is_table(path):
        rows = _read_table(path)
    elif not path.is_dir():
        raise InputError(f"{path}: not a folder, .csv or .parquet file")
    elif files := sorted(path.rglob("*.mat")):
        rows = _read_mat_folder(path, files)
    else:
        rows = _read_biwi(path)
    if not len(rows.angles_deg):
        raise InputError(
            f"{path}: found no pictures with angles; expected {', '.join(ANGLES)} in a table, .mat files beside "
            f"pictures, or BIWI's frame_00000{BIWI_POSE} and frame_00000{BIWI_PICTURE}"
        )
    return rows


def _choose(rows: PoseRows, split: Split, path: Path) -> PoseSet:
    chosen = rows_of_split(rows.splits, len(rows.angles_deg), split, path)
    groups = None if rows.groups is None else rows.groups[chosen]
    return PoseSet(rows.pictures.subset(chosen), rows.angles_deg[chosen], rows.num_skipped, groups)


def _read_table(path: Path) -> PoseRows:
    """Parquet or csv with angles in degrees, and jpeg (bytes) or path; a column split says train or test."""
    pictures, columns = read_picture_table(path, dict.fromkeys(ANGLES, "number"))
    angles = np.stack([columns[name] for name in ANGLES], axis=1)
    kept = np.flatnonzero(np.isfinite(angles).all(axis=1))
    splits, groups = columns.get("split"), groups_of(columns)
    chosen = None if splits is None else [splits[i] or "" for i in kept]
    skipped = len(angles) - len(kept)
    return PoseRows(pictures.subset(kept), angles[kept], skipped, chosen, None if groups is None else groups[kept])


def _read_mat_folder(path: Path, files: Sequence[Path]) -> PoseRows:
    """300W-LP or AFLW2000: whole pictures, Pose_Para in radians: pitch, yaw, roll first."""
    pictures, angles = [], []
    num_skipped = 0
    for file in files:
        picture = next((p for s in (".jpg", ".png", ".jpeg") if (p := file.with_suffix(s)).is_file()), None)
        if picture is None:  # 300W-LP keeps landmarks of the same pictures in a folder of their own
            continue
        try:
            pitch, yaw, roll = np.degrees(scipy.io.loadmat(file, variable_names=["Pose_Para"])["Pose_Para"].ravel()[:3])
        except (OSError, ValueError, KeyError, TypeError, NotImplementedError) as error:
            raise InputError(f"{file}: cannot be read ({error}); expected Pose_Para, pitch, yaw, roll") from None
        if max(abs(yaw), abs(pitch), abs(roll)) > LARGEST_DEG:
            num_skipped += 1
            continue
        pictures.append(picture)
        angles.append((yaw, pitch, roll))
    return PoseRows(_files(pictures, path), np.array(angles, np.float64).reshape(-1, 3), num_skipped)


def _read_biwi(path: Path) -> PoseRows:
    """BIWI: whole pictures and rotation matrices, a folder per recording; the last recordings are the test split."""
    pictures, angles, recordings = [], [], []
    for file in sorted(path.rglob(f"*{BIWI_POSE}")):
        picture = file.with_name(file.name.removesuffix(BIWI_POSE) + BIWI_PICTURE)
        if not is_picture(picture) or not picture.is_file():
            continue
        pictures.append(picture)
        angles.append(_angles_of(_read_rotation(file)))
        recordings.append(file.parent.name)
    names = sorted(set(recordings))
    held_out = names[-BIWI_NUM_TEST:] if len(names) > BIWI_NUM_TEST else []
    splits = ["test" if name in held_out else "train" for name in recordings]
    return PoseRows(
        _files(pictures, path), np.array(angles, np.float64).reshape(-1, 3), 0, splits, np.array(recordings)
    )


def _read_rotation(file: Path) -> np.ndarray:
    """(3, 3); the fourth line, the position of the head, is left."""
    try:
        return np.array([float(v) for v in file.read_text().split()[:9]]).reshape(3, 3)
    except (OSError, ValueError):
        raise InputError(f"{file}: not a pose; expected the nine numbers of a rotation matrix first") from None


def _angles_of(rotation: np.ndarray) -> tuple[float, float, float]:
    """Yaw, pitch, roll in degrees, as the published protocol takes them from BIWI's matrices (Ruiz et al. 2018)."""
    r = rotation.T
    yaw = -np.arctan2(-r[2, 0], np.hypot(r[2, 1], r[2, 2]))
    pitch = np.arctan2(r[2, 1], r[2, 2])
    roll = -np.arctan2(r[1, 0], r[0, 0])
    return float(np.degrees(yaw)), float(np.degrees(pitch)), float(np.degrees(roll))


def _files(files: Sequence[Path], root: Path) -> Pictures:
    return Pictures([file.relative_to(root).as_posix() for file in files], list(files), are_crops=False)
