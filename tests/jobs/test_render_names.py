"""Names of results in whole runs: nobody's file is taken over, and one name that is too long stops nobody else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from fcvideo.errors import OutputError
from tests.jobs.rendering import faces_of, leftovers, run_frontalize, run_reenact

SAMPLE = Path(__file__).parents[2] / "examples" / "astronaut.mp4"


@pytest.fixture(scope="module")
def face() -> Image.Image:
    return Image.fromarray(faces_of(SAMPLE, 1, (192, 192))[0])


def rows_of(out: Path) -> dict[str, dict]:
    return json.loads((out / "renderings.json").read_text())["outputs"]


def test_a_file_that_is_added_takes_no_name_over(tmp_path: Path, tiny_model: Path, face: Image.Image):
    folder, out = tmp_path / "s", tmp_path / "out"
    folder.mkdir()
    face.save(folder / "clip.tif")
    run_frontalize(folder, model=tiny_model, out=f"{out}/")
    before = (out / "clip.png").read_bytes()
    face.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(folder / "clip.bmp")
    (folder / "clip.ppm").write_text("no picture")
    summary = run_frontalize(folder, model=tiny_model, out=f"{out}/")
    assert (summary["outputs"], summary["failed"]) == (2, 1)
    assert (out / "clip.png").read_bytes() == before != (out / "clip.bmp.png").read_bytes()
    sources = {name: (row["source"], row["status"]) for name, row in rows_of(out).items()}
    assert sources == {
        "clip.png": ("clip.tif", "ok"),
        "clip.bmp.png": ("clip.bmp", "ok"),
        "clip.ppm.png": ("clip.ppm", "not_media"),
    }
    # one of them alone is known by its name
    alone = run_frontalize(folder / "clip.bmp", model=tiny_model, out=f"{out}/")
    assert (alone["outputs"], len(list(out.glob("*.png")))) == (1, 2)


def test_a_file_by_its_own_name_is_not_replaced_by_anothers_result(
    tmp_path: Path, tiny_model: Path, face: Image.Image, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        Path(name).mkdir()
        face.rotate(5 if name == "b" else 0).save(f"{name}/x.png")
    run_reenact("a/x.png", "a/x.png", tiny_model)
    before = Path("x-x.png").read_bytes()
    with pytest.raises(OutputError, match=r"x-x\.png: was made of a/x\.png; --overwrite replaces it"):
        run_reenact("b/x.png", "a/x.png", tiny_model)
    assert Path("x-x.png").read_bytes() == before
    assert run_reenact("b/x.png", "a/x.png", tiny_model, overwrite=True)["exit_code"] == 0
    assert Path("x-x.png").read_bytes() != before


def test_one_name_that_is_too_long_fails_alone(tmp_path: Path, tiny_model: Path, face: Image.Image):
    folder, out = tmp_path / "s", tmp_path / "out"
    folder.mkdir()
    names = [f"{'a' * 251}.jpg", f"{'b' * 240}.tif", f"{'é' * 125}.ppm"]
    for name in names:
        face.save(folder / name, "PNG")
    shutil.copy(SAMPLE, folder / f"{'v' * 251}.mp4")
    summary = run_frontalize(folder, model=tiny_model, out=f"{out}/", duration=0.2)
    assert (summary["exit_code"], summary["outputs"]) == (0, 4)
    other = tmp_path / "pairs"
    short, long = tmp_path / "x.png", folder / names[0]
    face.save(short)
    summary = run_reenact([short, long], short, tiny_model, out=f"{other}/")
    assert (summary["exit_code"], summary["outputs"], summary["failed"]) == (3, 1, 1)
    (row,) = [row for row in rows_of(other).values() if row["status"] != "ok"]
    assert row["status"] == "error"
    assert "found a name of 257 bytes, expected at most 255; rename the input" in row["error"]
    assert [path.name for path in other.glob("*.png")] == ["x-x.png"]


def test_a_name_of_its_own_of_any_length_is_written(tmp_path: Path, tiny_model: Path, face: Image.Image):
    face.save(tmp_path / "x.png")
    for number in (230, 251):
        out = tmp_path / f"{'a' * number}.png"
        assert run_frontalize(tmp_path / "x.png", model=tiny_model, out=str(out))["exit_code"] == 0
        assert run_frontalize(tmp_path / "x.png", model=tiny_model, out=str(out))["outputs"] == 1
        assert out.exists()
    assert leftovers(tmp_path) == []


def test_a_place_that_is_taken_fails_alone(tmp_path: Path, tiny_model: Path, face: Image.Image):
    folder, out = tmp_path / "s", tmp_path / "out"
    for name in ("file/x.png", "folder.bmp", "folder.png/x.png", "z.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        face.save(folder / name)
    out.mkdir()
    (out / "file").write_text("in the way of a folder")
    summary = run_frontalize(folder, model=tiny_model, out=f"{out}/")
    assert (summary["exit_code"], summary["outputs"], summary["failed"]) == (3, 2, 2)
    failed = {name: row["error"] for name, row in rows_of(out).items() if row["status"] == "error"}
    assert failed.keys() == {"file/x.png", "folder.png"}
    assert "cannot be written (File exists)" in failed["file/x.png"]
    assert "found a folder of this name" in failed["folder.png"]
