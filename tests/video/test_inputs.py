from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import PIL.Image
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


def told(*inputs: str, images: bool = False) -> tuple[list[str], list[str]]:
    """Names of the sources, and what was said."""
    said: list[str] = []
    return [source.name for source in resolve_inputs(inputs, images=images, say=said.append)], said


def test_what_of_a_folder_is_not_taken_is_told_in_one_line(tree: Path) -> None:
    for name in ("b.jpg", "c.JPG", "d.json", "README"):
        (tree / "a" / name).touch()
    (tree / "a" / "gone.mp4").symlink_to("nowhere.mp4")
    os.mkfifo(tree / "a" / "pipe.mp4")
    found, (line,) = told("a")
    assert found == ["deep/two.MKV", "one.mp4"]
    counts = "2 hidden, 2 .jpg, 1 without a suffix, 1 .json, 1 broken links, 1 .md, 1 a FIFO"
    assert line == f"a: passed over {counts} (.cache, .hidden.mp4, README, ..)"
    assert told("b") == (["one.mp4"], [])
    found, (line,) = told("a", images=True)
    assert found == ["b.jpg", "c.JPG", "deep/two.MKV", "one.mp4"]
    assert ".jpg" not in line.partition("(")[0]


def test_a_pattern_tells_what_it_does_not_take(tree: Path) -> None:
    found, (line,) = told("*")
    assert found == ["c.dat"]
    assert line == "*: passed over 2 that are no files, such as a"


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """One that a user without rights can reach, too."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_a_folder_without_permission_is_told(open_folder: Path) -> None:
    (open_folder / "a.mp4").touch()
    (open_folder / "private").mkdir(mode=0o700)
    (open_folder / "private" / "b.mp4").touch()
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)
    else:
        (open_folder / "private").chmod(0)
    try:
        found, (line,) = told(str(open_folder))
        with pytest.raises(InputError, match="cannot be opened"):
            told(str(open_folder / "private"))
    finally:
        if is_root:
            os.seteuid(0)
        (open_folder / "private").chmod(0o700)
    assert found == ["a.mp4"]
    assert line.endswith("passed over 1 folders that cannot be opened (Permission denied) (private)")


def test_linked_folders_are_entered_once(tree: Path) -> None:
    (tree / "elsewhere" / "sub").mkdir(parents=True)
    (tree / "elsewhere" / "sub" / "three.mp4").touch()
    (tree / "elsewhere" / "sub" / "round").symlink_to(tree / "elsewhere")
    (tree / "a" / "linked").symlink_to(tree / "elsewhere")
    (tree / "a" / "again").symlink_to(tree / "elsewhere")
    (tree / "a" / "a_deep").symlink_to("deep")  # whose files have their own names
    (tree / "a" / "back").symlink_to(tree / "a")
    (tree / "a" / "shown").symlink_to(".cache")
    assert names("a") == ["again/sub/three.mp4", "deep/two.MKV", "one.mp4", "shown/x.mp4"]


def test_a_linked_blob_is_what_its_content_is(tree: Path) -> None:
    """Dataset managers name files by their hash."""
    blobs = tree / ".store"
    blobs.mkdir()
    PIL.Image.new("RGB", (8, 8)).save(blobs / "5e1f", "JPEG")
    (blobs / "77ab").write_bytes(b"\x1aE\xdf\xa3")
    for name, blob in (
        ("face.jpg", "5e1f"),
        ("clip.mkv", "77ab"),
        ("face", "5e1f"),
        ("clip", "77ab"),
        ("x.jpg", "77ab"),
    ):
        (tree / "b" / name).symlink_to(blobs / blob)
    found = resolve_inputs(["b"], images=True)
    assert [(source.name, source.kind) for source in found] == [
        ("clip", "video"),
        ("face", "image"),
        ("one.mp4", "video"),
    ]
    assert [source.name for source in resolve_inputs(["b"])] == ["clip", "one.mp4"]
    (one,) = resolve_inputs(["b/face.jpg"])
    assert one.is_image
    assert one.path == str(blobs / "5e1f")
    (one,) = resolve_inputs([".store/77ab"])
    assert not one.is_image


@pytest.mark.parametrize("images", [False, True])
def test_what_is_no_file_is_refused_at_once(tree: Path, images: bool) -> None:
    os.mkfifo(tree / "fifo.mp4")
    os.mkfifo(tree / "list.txt")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket.mp4")
        kinds = {"fifo.mp4": "a FIFO", "list.txt": "a FIFO", "socket.mp4": "a socket", "/dev/zero": "a device"}
        for name, kind in kinds.items():
            with pytest.raises(InputError, match=f"{name}: found {kind}, expected a file"):
                resolve_inputs([name], images=images)


def test_a_tilde_of_nobody_and_a_name_that_is_too_long_are_no_traceback(tree: Path) -> None:
    for text, message in (("~x.mp4", "found nothing there"), ("x" * 300 + ".mp4", "File name too long")):
        with pytest.raises(InputError, match=message):
            resolve_inputs([text])
    (tree / "~x.mp4").touch()
    assert names("~x.mp4") == ["~x.mp4"]


def test_names_are_text_without_secrets(tree: Path) -> None:
    Path(os.fsdecode(b"b/\xff.mp4")).touch()
    (tree / "b" / "\\udcff.mp4").touch()
    found = names("b", "https://u:p@host/v.mp4?id=1&X-Amz-Signature=a", "https://host/w.mp4?sig=1")
    assert found[0] == f"{tree}/b/\\udcff.mp4"
    assert found[1] == "one.mp4"
    assert found[2].startswith(f"{tree}/b/\\udcff.mp4#")
    assert found[3:] == ["https://host/v.mp4?id=1", "https://host/w.mp4"]
    first, second = names("https://host/v.mp4?sig=1", "https://host/v.mp4?sig=2")
    assert first != second
    assert "sig" not in first + second
