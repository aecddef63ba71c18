"""Which face of a target is meant, and whether it can be shown in motion: large, upright, open to the camera."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fcvideo.errors import InputError
from fcvideo.faces.detect import Faces

# The nose's way off the middle of eyes and mouth, in distances between them, is 1/140 a degree of yaw: off by 7.1
# degrees on 1,607 pictures of known pose. The most turned of 1,304 under 30 degrees comes out at 45, the most turned of
# all, of 50 to 60 degrees, at 59: a profile is refused, three quarters are not.
DEG_PER_SHIFT, MOST_TURNED_DEG = 140.0, 60.0
# How sure the face mesh is of an upright face. Of 1,680 pictures under 30 degrees of yaw the least is 0.89; on its side
# 95 of 100 faces come to 0.15 or less. A face half hidden is mostly seen as one: of those with eyes hidden half come to
# 0.94 or more.
LEAST_SURE = 0.5
VIEW = 1.5  # side of what the mesh is shown, in longer sides of the box


@dataclass(frozen=True)
class Choice:
    """Which face of a target is taken, at which time of a video; `is_forced`: even one that cannot be driven well."""

    time_seconds: float | None = None
    face: int | None = None
    at: tuple[float, float] | None = None
    is_forced: bool = False


def turned_deg(landmarks: np.ndarray) -> np.ndarray:
    """(N,) degrees of yaw of faces with these landmarks (N, 5, 2), to the picture's left above 0: a rough measure."""
    eyes, mouth = landmarks[:, :2].mean(axis=1), landmarks[:, 3:].mean(axis=1)
    across = landmarks[:, 1] - landmarks[:, 0]
    across = across / np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-6)
    down = np.stack([-across[:, 1], across[:, 0]], axis=1)
    height = ((mouth - eyes) * down).sum(axis=1)
    shift = ((landmarks[:, 2] - (eyes + mouth) / 2) * across).sum(axis=1)
    return np.clip(-DEG_PER_SHIFT * shift / np.maximum(height, 1e-3), -90, 90)


def pick(faces: Faces, choice: Choice) -> int:
    """Position of the chosen face, the first and largest by default. Errors: InputError without the file's name."""
    if choice.face is not None:
        if choice.face >= len(faces):
            raise InputError(f"--target-face {choice.face}: found faces 0 to {len(faces) - 1}; see `fcvideo faces`")
        return choice.face
    if choice.at is None:
        return 0
    corner, size = faces.boxes[:, :2], faces.boxes[:, 2:]
    outside = np.maximum(np.maximum(corner - choice.at, choice.at - (corner + size)), 0)
    off_center = np.linalg.norm((corner + size / 2 - choice.at) / np.maximum(size, 1e-6), axis=1)
    return int(np.lexsort((off_center, np.linalg.norm(outside, axis=1)))[0])


class FitJudge:
    """Holds the face mesh, on the CPU."""

    def __init__(self, min_face_px: int, score: float) -> None:
        from fcvideo.faces.face_mesh import load_face_mesh

        self._mesh, self._min_face_px, self._score = load_face_mesh(), min_face_px, score

    def unfit(self, picture: np.ndarray, faces: Faces, number: int) -> str | None:
        """What keeps a face of a picture uint8 (H, W, 3) from being driven well, and what was expected."""
        height, score = float(faces.boxes[number, 3]), float(faces.scores[number])
        turned = float(turned_deg(faces.landmarks[number : number + 1])[0])
        if height < self._min_face_px:
            return f"found a face of {height:.0f} pixels, expected {self._min_face_px} or more (--min-face)"
        if score < self._score:
            return f"found a face of score {score:.2f}, expected {self._score:g} or more (--score)"
        if abs(turned) > MOST_TURNED_DEG:
            return f"found a face turned by about {abs(turned):.0f} degrees, expected {MOST_TURNED_DEG:.0f} or less"
        sure = self.sureness(picture, faces.boxes[number])
        if sure < LEAST_SURE:
            what = "a face that lies, is covered or not seen from the front"
            return f"found {what} (sure {sure:.2f}), expected {LEAST_SURE:g} or more"
        return None

    def sureness(self, picture: np.ndarray, box: np.ndarray) -> float:
        """Of an upright face, 0 to 1."""
        import torch

        from fcvideo.faces.crop import Framing, crop_affine, crop_face
        from fcvideo.models.face_mesh import SIDE_PX

        side_factor = VIEW * max(float(box[2] / box[3]), 1.0)
        affine = crop_affine(box, SIDE_PX, Framing(side_factor, (0.5, 0.5)))
        crop = torch.from_numpy(crop_face(picture, affine, SIDE_PX)).permute(2, 0, 1)[None].float() / 255
        with torch.inference_mode():
            return float(self._mesh(crop)[1])
