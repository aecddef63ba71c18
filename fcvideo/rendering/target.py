"""The face that is to be moved, or shown instead of another: out of a picture, or the best frame of a video."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fcvideo.errors import InputError, ModelError, VideoError
from fcvideo.faces.crop import Framing, crop_affine, crop_face
from fcvideo.faces.detect import FaceDetector
from fcvideo.faces.fit import Choice, FitJudge, pick
from fcvideo.models.store import MEAN_FACE, locate_model
from fcvideo.rendering.portrait import PortraitPainter, motion_size
from fcvideo.video.container import with_kind
from fcvideo.video.inputs import Source
from fcvideo.video.probe import probe
from fcvideo.video.random_access import FrameGrabber
from fcvideo.video.still import read_still

NUM_FRAMES = 48  # of a video that are looked at, spread over it
LARGE = 0.7  # of the largest face's height: smaller ones are no candidates
MIN_FACE_PX = 40
LARGEST = Choice()
WEAK_FACE_PX, WEAK_SCORE = 16, 0.3  # of a face that is told of where no other is found


@dataclass(frozen=True)
class Target:
    """A face in its picture, uint8 RGB (H, W, 3); `box` (4,) is x, y, width, height in its pixels."""

    name: str
    picture: np.ndarray
    box: np.ndarray
    pts_seconds: float | None  # in its video; None for an image
    note: str | None = None  # one line for the user


class TargetFinder:
    """Finds targets. In a video without a given time the large face nearest to its neutral face is taken."""

    def __init__(self, painter: PortraitPainter, min_face_px: int = MIN_FACE_PX, score: float = 0.7) -> None:
        self._painter = painter
        self._detect = FaceDetector(min_face_px=min_face_px, score_threshold=score)
        self._detect_weak = FaceDetector(min_face_px=WEAK_FACE_PX, score_threshold=WEAK_SCORE)
        self._judge = FitJudge(min_face_px, score)

    def find(self, source: Source, choice: Choice = LARGEST) -> Target:
        """Errors: InputError for a file that cannot be read, or shows no face that can be driven well."""
        try:
            if with_kind(source).is_image:
                return self._in_picture(source.name, read_still(source.path), None, choice)
            with FrameGrabber(source.path) as grabber:
                if choice.time_seconds is not None:
                    (frame,) = grabber.frames([choice.time_seconds])
                    assert frame.image is not None
                    return self._in_picture(source.name, frame.image, frame.pts_seconds, choice)
                return self._best(source, grabber, choice)
        except VideoError as error:
            raise InputError(str(error)) from None

    def _in_picture(self, name: str, picture: np.ndarray, pts_seconds: float | None, choice: Choice) -> Target:
        at = "" if pts_seconds is None else f" at {pts_seconds:.3f} s"
        (faces,) = self._detect([picture])
        if not len(faces):
            (faces,) = self._detect_weak([picture])
        if not len(faces):
            raise InputError(f"{name}: found no face{at}, expected one to show")
        try:
            number = pick(faces, choice)
        except InputError as error:
            raise InputError(f"{name}{at}: {error}") from None
        reason = None if choice.is_forced else self._judge.unfit(picture, faces, number)
        if reason:
            raise InputError(f"{name}{at}: {reason}; choose another target, or --force")
        note = None
        if len(faces) > 1 and choice.face is None and choice.at is None:
            x, y, width, height = faces.boxes[0].tolist()
            note = (
                f"{name}{at}: took the largest of {len(faces)} faces, at {x + width / 2:.0f},{y + height / 2:.0f}; "
                "--target-at or --target-face takes another (`fcvideo faces` shows their numbers)"
            )
        return Target(name, picture, faces.boxes[number], pts_seconds, note)

    def _best(self, source: Source, grabber: FrameGrabber, choice: Choice) -> Target:
        if choice.face is not None:
            raise InputError(f"{source.name}: --target-face is a number in one frame: expected --target-time too")
        info = probe(source)
        start = info.start_seconds or 0.0
        times = start + (info.duration_seconds or 0.0) * (np.arange(NUM_FRAMES) + 0.5) / NUM_FRAMES
        candidates: dict[float, tuple[np.ndarray, np.ndarray]] = {}  # by time: box and crop of the chosen face
        unfit: list[str] = []
        for seconds in times.tolist():  # one picture at a time: 48 of a film fill a gigabyte
            (frame,) = grabber.frames([seconds])
            assert frame.image is not None
            (faces,) = self._detect([frame.image])
            if len(faces):
                number = pick(faces, choice)
                reason = None if choice.is_forced else self._judge.unfit(frame.image, faces, number)
                if reason is None:
                    candidates[frame.pts_seconds] = faces.boxes[number], self._crop(frame.image, faces.boxes[number])
                else:
                    unfit.append(reason)
        if not candidates and unfit:
            raise InputError(
                f"{source.name}: found no face to drive well in {NUM_FRAMES} frames of it: {unfit[len(unfit) // 2]}; "
                "choose another target, or --force"
            )
        if not candidates:
            raise InputError(f"{source.name}: found no face in {NUM_FRAMES} frames of it, expected one to show")
        heights = np.array([box[3] for box, _ in candidates.values()])
        codes = self._painter.codes(self._painter.look(np.stack([crop for _, crop in candidates.values()])))
        distance = motion_size(self._painter.motion(codes)).cpu().numpy()
        best = int(np.where(heights >= LARGE * heights.max(), distance, np.inf).argmin())
        (frame,) = grabber.frames([list(candidates)[best]])
        assert frame.image is not None
        return self._in_picture(source.name, frame.image, frame.pts_seconds, choice)

    def _crop(self, image: np.ndarray, box: np.ndarray) -> np.ndarray:
        side_px = self._painter.side_px
        return crop_face(image, crop_affine(box, side_px, Framing.of(self._painter.model.config)), side_px)


def load_mean_face(model: str, framing: Framing) -> Target | None:
    """The mean face that lies in a model's folder, if there is one, as a target. Errors: ModelError."""
    path = locate_model(model) / MEAN_FACE
    if not path.is_file():
        return None
    try:
        picture = read_still(path)
    except VideoError as error:
        raise ModelError(str(error)) from None
    side = len(picture)
    height = side / framing.side_factor  # the picture is the square that the model would see of it
    center_x, center_y = side * framing.center[0], side * framing.center[1]
    box = np.array([center_x - height / 2, center_y - height / 2, height, height])
    return Target("mean face", picture, box, None)
