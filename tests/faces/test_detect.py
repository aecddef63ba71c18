from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from fcvideo.faces.detect import FaceDetector, Faces, TorchNetwork, network_size

SAMPLE = Path(__file__).resolve().parents[2] / "examples" / "astronaut.mp4"
ORIGINAL = Path(__file__).with_name("face_detection_yunet_2023mar.onnx")
EVERY_SIZE = 10_000  # a long side that no test picture reaches: nothing is shrunk


def read(path: Path, step: int, count: int) -> list[np.ndarray]:
    frames: list[np.ndarray] = []
    with av.open(str(path)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if len(frames) == count:
                break
            if index % step == 0:
                frames.append(frame.to_ndarray(format="rgb24"))
    return frames


@pytest.fixture(scope="module")
def frames(media: Path) -> list[np.ndarray]:
    """Pictures of five sizes, with up to several faces each."""
    street = read(media / "facenet_street.mp4", 40, 2)
    small = [read(media / name, 50, 3) for name in ("hamilton.mp4", "franck.mp4", "carphone.mp4", "lp_d0.mp4")]
    return street + [frame for clip in small for frame in clip]


@pytest.fixture(params=["onnxruntime", "torch"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def detector(backend: str, batch_size: int = 2, **settings: float) -> FaceDetector:
    made = FaceDetector(**settings)  # type: ignore[arg-type]
    if backend == "torch":
        made.network = TorchNetwork("cpu", batch_size)
    return made


def opencv_faces(frame: np.ndarray, min_face_px: int) -> Faces:
    reference = cv2.FaceDetectorYN.create(str(ORIGINAL), "", frame.shape[1::-1], 0.7, 0.3, 5000)
    _, found = reference.detect(np.ascontiguousarray(frame[..., ::-1]))
    found = np.zeros((0, 15), np.float32) if found is None else found
    found = found[found[:, 3] >= min_face_px]
    found = found[np.lexsort((found[:, 0], -found[:, 2] * found[:, 3]))]
    return Faces(found[:, :4], found[:, 14], found[:, 4:14].reshape(-1, 5, 2))


def assert_equal(found: Faces, expected: Faces, tolerance_px: float, score_tolerance: float = 1e-4) -> None:
    assert len(found) == len(expected)
    np.testing.assert_allclose(found.boxes, expected.boxes, rtol=0, atol=tolerance_px)
    np.testing.assert_allclose(found.landmarks, expected.landmarks, rtol=0, atol=tolerance_px)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=0, atol=score_tolerance)


def test_faces_equal_those_of_opencv(frames: list[np.ndarray], backend: str) -> None:
    expected = [opencv_faces(frame, 10) for frame in frames]
    found = detector(backend, min_face_px=10, long_side=EVERY_SIZE)(frames)
    assert sum(map(len, expected)) >= 15
    for ours, theirs in zip(found, expected, strict=True):
        assert_equal(ours, theirs, 0.01)


def test_the_sample_has_the_face_that_opencv_finds_in_every_frame(backend: str) -> None:
    frames = read(SAMPLE, 1, 1000)
    found = detector(backend)(frames)
    assert [len(faces) for faces in found] == [1] * 100
    for ours, frame in zip(found[::10], frames[::10], strict=True):
        assert_equal(ours, opencv_faces(frame, 20), 0.01)


def test_a_face_does_not_depend_on_the_rest_of_its_batch(frames: list[np.ndarray], backend: str) -> None:
    find = detector(backend)
    together = find(frames)
    for frame, faces in zip(frames, together, strict=True):
        assert_equal(find([frame])[0], faces, 0.0)


def test_a_shrunk_picture_gives_the_boxes_of_the_whole_one(media: Path) -> None:
    pictures = read(media / "lp_s29.mp4", 40, 4)  # 720 x 1364, one face
    shrunk = FaceDetector()(pictures)
    whole = FaceDetector(long_side=EVERY_SIZE)(pictures)
    for ours, exact in zip(shrunk, whole, strict=True):
        assert len(ours) == len(exact) == 1
        assert_equal(ours, exact, 0.1 * float(exact.boxes[0, 3]), score_tolerance=0.2)


def test_faces_come_the_largest_first_and_none_is_under_the_smallest_wanted(frames: list[np.ndarray]) -> None:
    for faces in FaceDetector(min_face_px=40)(frames):
        areas = faces.boxes[:, 2] * faces.boxes[:, 3]
        assert (np.diff(areas) <= 0).all()
        assert (faces.boxes[:, 3] >= 40).all()


def test_landmarks_lie_in_their_box_eyes_above_the_mouth(frames: list[np.ndarray]) -> None:
    for faces in FaceDetector()(frames):
        inside = faces.landmarks - faces.boxes[:, None, :2]
        assert (inside > -0.3 * faces.boxes[:, None, 2:]).all()
        assert (inside < 1.3 * faces.boxes[:, None, 2:]).all()
        assert (faces.landmarks[:, :2, 1].mean(axis=1) < faces.landmarks[:, 3:, 1].mean(axis=1)).all()


@pytest.mark.parametrize("shape", [(1, 1, 3), (33, 700, 3), (480, 640, 3)])
def test_a_picture_without_a_face_gives_empty_arrays_of_the_right_form(shape: tuple[int, ...], backend: str) -> None:
    (faces,) = detector(backend)([np.full(shape, 127, np.uint8)])
    assert faces.boxes.shape == (0, 4)
    assert faces.scores.shape == (0,)
    assert faces.landmarks.shape == (0, 5, 2)
    assert faces.boxes.dtype == faces.scores.dtype == faces.landmarks.dtype == np.float32


def test_no_pictures_give_no_results(backend: str) -> None:
    assert detector(backend)([]) == []


@pytest.mark.parametrize(
    ("picture", "min_face_px", "expected"),
    [
        ((720, 1280), 40, (360, 640)),  # long side 640 shows a 40 px face at 20
        ((1080, 1920), 40, (540, 960)),  # 640 would show it at 13
        ((1080, 1920), 60, (360, 640)),
        ((1080, 1920), 8, (1080, 1920)),  # never enlarged
        ((1364, 720), 40, (682, 360)),
        ((144, 176), 20, (144, 176)),
    ],
)
def test_the_smallest_face_decides_the_size_searched(
    picture: tuple[int, int], min_face_px: int, expected: tuple[int, int]
) -> None:
    assert network_size(*picture, min_face_px, 640) == expected
