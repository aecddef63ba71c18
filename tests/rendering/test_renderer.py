from __future__ import annotations

import numpy as np
import pytest

from fcvideo.config import DEFAULT_MODEL, Compose
from fcvideo.rendering.renderer import Moment, Renderer, Rendering, make_renderer
from fcvideo.rendering.target import Target
from tests.rendering.conftest import SIZE_PX, FaceClip


@pytest.fixture(scope="module")
def target(astronaut: FaceClip) -> Target:
    return Target("astronaut", astronaut.images[0], astronaut.boxes[0], 0.0)


def moments_of(clip: FaceClip, num: int, presence: float = 1.0) -> list[Moment]:
    rows = zip(clip.images[:num], clip.boxes[:num], strict=True)
    return [Moment(image, image, box, presence, None, index) for index, (image, box) in enumerate(rows)]


def renderer(kind: str, compose: Compose, target: Target | None = None, **more: object) -> Renderer:
    return make_renderer(Rendering(kind, DEFAULT_MODEL, "float32", compose, SIZE_PX, target=target, **more))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["reenact", "frontalize", "deidentify"])
@pytest.mark.parametrize("compose", ["crop", "panel", "paste"])
def test_pictures_have_the_size_that_was_announced(kind: str, compose: Compose, target: Target, turning_head: FaceClip):
    render = renderer(kind, compose, target if kind == "reenact" else None)
    height, width = turning_head.images[0].shape[:2]
    pictures = render.render(moments_of(turning_head, 3))
    assert {picture.shape[1::-1] for picture in pictures} == {render.size(width, height)}
    assert all(picture.dtype == np.uint8 for picture in pictures)
    if compose == "paste":
        assert render.size(width, height) == (target.picture.shape[1::-1] if kind == "reenact" else (width, height))


def test_a_picture_does_not_depend_on_its_batch(target: Target, turning_head: FaceClip):
    render = renderer("reenact", "crop", target)
    moments = moments_of(turning_head, 4)
    together = render.render(moments)
    alone = [render.render([moment])[0] for moment in moments]
    assert max(int(np.abs(a.astype(int) - b).max()) for a, b in zip(together, alone, strict=True)) <= 1


def test_a_face_that_is_away_leaves_the_frame_alone(turning_head: FaceClip):
    for kind in ("frontalize", "deidentify"):
        render = renderer(kind, "paste")
        (gone,) = render.render(moments_of(turning_head, 1, presence=0.0))
        assert np.array_equal(gone, turning_head.images[0])


def test_a_fading_face_is_between_the_frame_and_the_result(turning_head: FaceClip):
    render = renderer("frontalize", "paste")
    change = [
        np.abs(render.render(moments_of(turning_head, 1, presence))[0].astype(int) - turning_head.images[0]).mean()
        for presence in (0.0, 0.4, 1.0)
    ]
    assert change[0] == 0 < change[1] < change[2]


def test_a_pasted_face_touches_nothing_outside_its_square(turning_head: FaceClip):
    render = renderer("deidentify", "paste")
    (picture,) = render.render(moments_of(turning_head, 1))
    x, y, width, height = turning_head.boxes[0]
    side = 1.25 * height
    left, top = int(x + width / 2 - side / 2), int(y + height / 2 - 0.4 * side)
    outside = np.ones(picture.shape[:2], bool)
    outside[max(top - 1, 0) : int(top + side) + 2, max(left - 1, 0) : int(left + side) + 2] = False
    assert np.array_equal(picture[outside], turning_head.images[0][outside])
    assert not np.array_equal(picture, turning_head.images[0])


def test_a_row_without_a_picture_is_driven_by_its_code(target: Target, turning_head: FaceClip):
    render = renderer("reenact", "crop", target)
    codes = render.painter.codes(render.painter.look(turning_head.crops[:2])).numpy()
    bare = [Moment(None, None, turning_head.boxes[i], 1.0, code, i) for i, code in enumerate(codes)]
    driven = render.render(bare)
    seen = render.render(moments_of(turning_head, 2))
    assert max(int(np.abs(a.astype(int) - b).max()) for a, b in zip(driven, seen, strict=True)) <= 1


def test_a_frame_without_any_face_still_has_a_picture(target: Target, turning_head: FaceClip):
    empty = Moment(turning_head.images[0], None, None, 0.0, None, -1)
    assert np.ptp(renderer("frontalize", "crop").render([empty])[0]) == 0
    assert np.array_equal(renderer("frontalize", "paste").render([empty])[0], turning_head.images[0])
    assert np.array_equal(renderer("reenact", "paste", target).render([empty])[0], target.picture)


def test_the_face_of_another_replaces_an_identity(target: Target, turning_head: FaceClip):
    mean = renderer("deidentify", "crop").render(moments_of(turning_head, 2))
    other = renderer("deidentify", "crop", target).render(moments_of(turning_head, 2))
    sharpness = [np.abs(np.diff(pictures[0].astype(int), axis=1)).mean() for pictures in (mean, other)]
    assert sharpness[1] > 2 * sharpness[0]  # a photograph's detail, where the mean face has none
