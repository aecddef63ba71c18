"""The mean face at a size that people can look at: many faces laid on each other by their landmarks.

FaceCycle's own mean face (equation 10) is one picture for everybody, but a small one that has lost its eyes; this is
what it stands for, and a file of the model.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable

import numpy as np
from PIL import Image

from fcvideo.faces.detect import FaceDetector

SIDE_PX = 160
LEAST_FACES = 20  # of fewer, each would show through
DETECTED_PX = 192  # side at which landmarks are looked for: small crops are enlarged
FRONTAL = 0.15  # of the distance between the eyes: a nose further from their middle line is of a turned face
MIRRORED = [1, 0, 2, 4, 3]  # eyes, nose, corners of the mouth


def mean_face(crops: Iterable[np.ndarray]) -> np.ndarray | None:
    """uint8 (SIDE_PX, SIDE_PX, 3), symmetric, of square crops uint8 (S, S, 3), few of each person.

    None where fewer than LEAST_FACES of them are seen from the front.
    """
    detect = FaceDetector(min_face_px=DETECTED_PX // 4, score_threshold=0.6)
    faces: list[np.ndarray] = []
    landmarks: list[np.ndarray] = []  # (5, 2), 0 to 1
    for crop in crops:
        face = np.array(Image.fromarray(crop).resize((DETECTED_PX, DETECTED_PX), Image.Resampling.BICUBIC))
        (found,) = detect([face])
        if len(found) and _is_frontal(found.landmarks[0]):
            faces.append(face)
            landmarks.append(found.landmarks[0] / DETECTED_PX)
    if len(faces) < LEAST_FACES:
        return None
    usual = np.median(landmarks, axis=0)
    usual = (usual + np.abs([1.0, 0.0] - usual[MIRRORED])) / 2
    lay = functools.partial(_laid_on, usual)
    average = np.mean([lay(face, points) for face, points in zip(faces, landmarks, strict=True)], axis=0)
    return ((average + average[:, ::-1]) / 2).round().astype(np.uint8)


def _is_frontal(landmarks: np.ndarray) -> bool:
    eyes = landmarks[:2]
    return bool(abs(landmarks[2, 0] - eyes[:, 0].mean()) < FRONTAL * np.linalg.norm(eyes[0] - eyes[1]))


def _laid_on(usual: np.ndarray, face: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """The face (SIDE_PX, SIDE_PX, 3) with its landmarks, by the nearest affine, where they usually are."""
    margin_px = len(face) // 2  # of repeated border, for what lies outside
    corners = np.concatenate([SIDE_PX * usual, np.ones((len(usual), 1))], axis=1)
    affine, *_ = np.linalg.lstsq(corners, landmarks * len(face) + margin_px, rcond=None)  # from the result to the face
    size, coefficients = (SIDE_PX, SIDE_PX), tuple(affine.T.ravel().tolist())
    wide = np.pad(face, ((margin_px, margin_px), (margin_px, margin_px), (0, 0)), mode="edge")
    laid = Image.fromarray(wide).transform(size, Image.Transform.AFFINE, coefficients, Image.Resampling.BICUBIC)
    return np.asarray(laid, np.float32)
