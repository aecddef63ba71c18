from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from fcvideo.faces.track import assign_tracks

RATE = 25.0


@dataclass
class Scene:
    """Rows as `embed` writes them, with the person behind each."""

    rows: list[tuple[int, float, np.ndarray, int]] = field(default_factory=list)

    def add(self, frame: int, x: float, y: float, size: float = 100, person: int = 0, rate: float = RATE) -> None:
        self.rows.append((frame, frame / rate, np.array([x, y, 0.8 * size, size]), person))

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        frame, pts, boxes, _ = zip(*self.rows, strict=True)
        return np.array(frame), np.array(pts), np.array(boxes)

    def codes(self, noise: float = 0.1, dim: int = 32) -> np.ndarray:
        rng = np.random.default_rng(0)
        people = rng.normal(size=(10, dim))
        return np.stack([people[person] + noise * rng.normal(size=dim) for *_, person in self.rows])

    def people(self) -> np.ndarray:
        return np.array([person for *_, person in self.rows])


@pytest.fixture
def busy() -> Scene:
    """Three people who wander, with misses, a cut at frame 60 and a shaking detector."""
    rng = np.random.default_rng(1)
    scene = Scene()
    for frame in range(120):
        for person in range(3):
            if rng.random() < 0.15:
                continue
            x = 150 * person + 60 * np.sin(frame / 9 + person) + (400 if frame >= 60 else 0)
            scene.add(frame, x + rng.normal(), 80 + 10 * person + rng.normal(), 100 + rng.normal(), person)
    return scene


def test_one_person_is_one_track() -> None:
    scene = Scene()
    for frame in range(200):
        scene.add(frame, 200 + 80 * np.sin(frame / 15), 100 + 30 * np.cos(frame / 11), 100 + 20 * np.sin(frame / 20))
    assert assign_tracks(*scene.arrays()).tolist() == [0] * 200


def test_a_short_gap_is_bridged_and_a_long_one_is_not() -> None:
    scene = Scene()
    for frame in [*range(25), *range(45, 70), *range(110, 130)]:  # away for 0.8 s, then for 1.6 s
        scene.add(frame, 200 + frame, 100)
    assert assign_tracks(*scene.arrays()).tolist() == [0] * 50 + [1] * 20


def test_sparse_sampling_does_not_break_a_track() -> None:
    scene = Scene()
    for frame in range(0, 1000, 50):  # every 2 s
        scene.add(frame, 200 + 40 * np.sin(frame), 100)
    assert assign_tracks(*scene.arrays()).max() == 0


def test_a_cut_ends_every_track() -> None:
    scene = Scene()
    for frame in range(50):
        late = frame >= 25
        scene.add(frame, 500 if late else 100, 100, 100, person=0)
        scene.add(frame, 800 if late else 300, 60 if late else 100, 180 if late else 100, person=1)
    ids = assign_tracks(*scene.arrays())
    assert set(ids[:50]) == {0, 1}
    assert set(ids[50:]) == {2, 3}


def test_a_cut_to_the_same_place_is_seen_in_the_codes() -> None:
    scene = Scene()
    for frame in range(60):
        scene.add(frame, 100, 100, person=frame // 30)
    assert assign_tracks(*scene.arrays()).max() == 0
    assert assign_tracks(*scene.arrays(), scene.codes()).tolist() == [0] * 30 + [1] * 30


def test_a_return_to_the_first_shot_within_a_second_is_a_new_track() -> None:
    scene = Scene()
    for frame in range(30):
        scene.add(frame, 600 if 10 <= frame < 20 else 100, 100)
    assert assign_tracks(*scene.arrays()).tolist() == [0] * 10 + [1] * 10 + [2] * 10


def test_a_false_box_in_place_of_a_missed_face_does_not_end_its_track() -> None:
    scene = Scene()
    for frame in range(30):
        scene.add(frame, 600 if frame == 15 else 100, 100)
    assert assign_tracks(*scene.arrays()).tolist() == [0] * 15 + [1] + [0] * 14


def crossing() -> Scene:
    scene = Scene()
    for frame in range(60):
        left, right = 100 + 6 * frame, 454 - 6 * frame
        scene.add(frame, left, 100, 100, person=0)
        if not 25 <= frame < 36:  # hidden behind the first
            scene.add(frame, right, 102, 101, person=1)
    return scene


def test_two_who_cross_keep_their_tracks_when_codes_are_given() -> None:
    scene = crossing()
    ids = assign_tracks(*scene.arrays(), scene.codes())
    people = scene.people()
    assert len(set(ids[people == 0])) == len(set(ids[people == 1])) == 1
    assert ids.max() == 1


def test_codes_decide_when_two_swap_places_in_one_frame() -> None:
    scene = Scene()
    for frame in range(40):
        a, b = (100, 130) if frame < 20 else (130, 100)
        scene.add(frame, a, 100, person=0)
        scene.add(frame, b, 100, person=1)
    ids = assign_tracks(*scene.arrays(), scene.codes())
    people = scene.people()
    assert len(set(ids[people == 0])) == len(set(ids[people == 1])) == 1


def test_small_integer_codes_do_as_well() -> None:
    scene = crossing()
    codes = scene.codes()
    rounded = np.rint(codes / np.abs(codes).max() * 127).astype(np.int8)
    np.testing.assert_array_equal(assign_tracks(*scene.arrays(), rounded), assign_tracks(*scene.arrays(), codes))


def test_codes_that_say_nothing_change_nothing(busy: Scene) -> None:
    alike = np.ones((len(busy.rows), 16))
    np.testing.assert_array_equal(assign_tracks(*busy.arrays(), alike), assign_tracks(*busy.arrays()))


def test_tracks_are_numbered_by_first_appearance_the_larger_face_first() -> None:
    scene = Scene()
    for frame in range(20):
        scene.add(frame, 500, 100, 80)
        scene.add(frame, 100, 100, 120)
        if frame >= 10:
            scene.add(frame, 900, 100, 200)
    ids = assign_tracks(*scene.arrays())
    sizes = scene.arrays()[2][:, 3]
    assert {(int(i), int(size)) for i, size in zip(ids, sizes, strict=True)} == {(0, 120), (1, 80), (2, 200)}


def shots(people: list[int], seconds: float = 2.0) -> Scene:
    """A shot of each person, elsewhere than the one before, after a pause of 3 s."""
    scene = Scene()
    for number, person in enumerate(people):
        for frame in range(int(seconds * RATE)):
            scene.add(int(number * (seconds + 3) * RATE) + frame, 100 + 300 * (number % 2), 100, person=person)
    return scene


def test_a_person_who_returns_after_a_cut_or_a_long_gap_has_the_number_of_before():
    scene = shots([0, 1, 0, 2, 1])
    ids = assign_tracks(*scene.arrays(), scene.codes())
    assert ids[::50].tolist() == [0, 1, 0, 2, 1]
    np.testing.assert_array_equal(ids, scene.people())
    assert assign_tracks(*scene.arrays()).max() == 4


def test_one_person_whose_code_jumps_is_one_track():
    scene, look = Scene(), np.eye(32)
    for frame in range(100):
        scene.add(frame, 100 + frame % 3, 100)
    looks = [look[0] + 0.5 * look[1] if 40 <= frame < 60 else look[0] for frame in range(100)]  # eyes shut: 0.89
    looks = [code + 0.7 * look[2] if 50 <= frame < 60 else code for frame, code in enumerate(looks)]  # 0.76
    assert assign_tracks(*scene.arrays(), np.stack(looks)).max() == 0


def test_faces_seen_at_once_are_never_one_person_however_alike():
    scene = Scene()
    for frame in range(200):
        scene.add(frame, 100, 100, person=0)
        if not 50 <= frame < 120:
            scene.add(frame, 400, 100, person=0)
    ids = assign_tracks(*scene.arrays(), scene.codes(noise=0.01))
    frame = scene.arrays()[0]
    assert len(set(zip(frame.tolist(), ids.tolist(), strict=True))) == len(frame)
    assert ids.max() == 2  # the second's return is not told from the first by such codes


@pytest.mark.parametrize("has_codes", [False, True])
def test_the_order_of_rows_does_not_matter(busy: Scene, has_codes: bool) -> None:
    arrays = (*busy.arrays(), busy.codes()) if has_codes else busy.arrays()
    shuffled = np.random.default_rng(2).permutation(len(busy.rows))
    expected = assign_tracks(*arrays)
    assert expected.max() == (2 if has_codes else 5)
    np.testing.assert_array_equal(assign_tracks(*(a[shuffled] for a in arrays)), expected[shuffled])


def test_a_track_holds_one_face_of_a_frame(busy: Scene) -> None:
    frame, pts, boxes = busy.arrays()
    ids = assign_tracks(frame, pts, boxes)
    assert len(set(zip(frame.tolist(), ids.tolist(), strict=True))) == len(frame)


def test_no_rows_give_no_tracks() -> None:
    ids = assign_tracks(
        np.zeros(0, np.int64), np.zeros(0), np.zeros((0, 4), np.float32), np.zeros((0, 256), np.float32)
    )
    assert ids.shape == (0,)
    assert ids.dtype == np.int32
