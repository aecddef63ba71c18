from __future__ import annotations

from pathlib import Path

import pytest

from fcvideo.errors import InputError
from fcvideo.video.inputs import resolve_inputs


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("a/one.mp4", "a/deep/two.MKV", "a/.hidden.mp4", "a/.cache/x.mp4", "a/notes.md", "b/one.mp4", "c.dat"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(*inputs: str, limit: int | None = None) -> list[str]:
    return [source.name for source in resolve_inputs(inputs, limit)]


def test_a_folder_gives_its_videos_sorted_and_relative_to_it(tree: Path) -> None:
    assert names("a") == names(f"{tree}/a/") == ["deep/two.MKV", "one.mp4"]


def test_a_file_named_directly_is_taken_whatever_its_suffix(tree: Path) -> None:
    assert names("c.dat", "a/.hidden.mp4") == ["c.dat", "a/.hidden.mp4"]


def test_names_that_would_clash_get_their_folder(tree: Path) -> None:
    assert names("a", "b") == ["deep/two.MKV", "a/one.mp4", "b/one.mp4"]


def test_a_file_given_twice_counts_once(tree: Path) -> None:
    assert names("a", "a/one.mp4", f"{tree}/a/one.mp4") == ["deep/two.MKV", "one.mp4"]


def test_globs_and_limit(tree: Path) -> None:
    assert names("*/*.mp4") == ["a/one.mp4", "b/one.mp4"]
    assert names("a/**/*.MKV") == ["a/deep/two.MKV"]
    assert names("a", "b", limit=2) == ["deep/two.MKV", "a/one.mp4"]


def test_a_name_with_glob_characters_is_a_file_when_it_is_there(tree: Path) -> None:
    (tree / "x[1].mp4").touch()
    assert names("x[1].mp4") == ["x[1].mp4"]


def test_a_list_file_starts_at_its_own_folder(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tree / "a" / "list.txt").write_text("# comment\none.mp4\n\n../b\nhttps://example.org/v.mp4\n")
    monkeypatch.chdir("/")
    sources = resolve_inputs([str(tree / "a" / "list.txt")])
    assert [source.path for source in sources] == [
        str(tree / "a/one.mp4"),
        str(tree / "b/one.mp4"),
        "https://example.org/v.mp4",
    ]
    assert len({source.name for source in sources}) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nowhere.mp4", "nothing there"),
        ("*.avi", "no file that matches"),
        ("empty", "no file with a video's suffix"),
        ("file:///etc/passwd", "scheme file://"),
        ("concat://a|b", "scheme concat://"),
        ("bad.txt", "nothing there"),
        ("nested.txt", "a list within a list"),
    ],
)
def test_what_is_not_there_is_said_in_one_line(tree: Path, text: str, message: str) -> None:
    (tree / "empty").mkdir()
    (tree / "bad.txt").write_text("gone.mp4\n")
    (tree / "nested.txt").write_text("bad.txt\n")
    with pytest.raises(InputError, match=message) as caught:
        resolve_inputs([text])
    assert text.split(":", 1)[0] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_input_is_an_error() -> None:
    with pytest.raises(InputError, match="no input"):
        resolve_inputs([])
