"""`fcvideo faces`: every face of a picture or of a video's frame, boxed and numbered, so that one can be chosen."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image, ImageDraw, ImageFont
from rich.console import Console
from rich.table import Table

from fcvideo.atomic import written_atomically
from fcvideo.config import EmbedSettings, FacesSettings
from fcvideo.errors import InputError, OutputError, VideoError, cannot_be_written
from fcvideo.faces.detect import FaceDetector, Faces
from fcvideo.faces.fit import turned_deg
from fcvideo.jobs.embed import embed
from fcvideo.running.worker_process import WorkerProcess
from fcvideo.video.inputs import Source, resolve_inputs
from fcvideo.video.random_access import FrameGrabber
from fcvideo.video.still import read_still

COLUMNS = ("number", "track", "x", "y", "w", "h", "score", "size", "turned_deg")
SAME_TIME_SECONDS = 1e-3


def faces(settings: FacesSettings) -> dict[str, Any]:
    """Writes the picture and prints the table on the terminal; gives the summary.

    Errors: InputError for what cannot be read or shows no face, OutputError.
    """
    sources = resolve_inputs(settings.inputs, images=True)
    if len(sources) != 1:
        raise InputError(f"faces: found {len(sources)} files, expected one picture or video")
    (source,), out = sources, Path(settings.out).expanduser()
    if out.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp"):
        raise OutputError(f"{out}: found the suffix {out.suffix!r}, expected .png, .jpg or .webp")
    if out.resolve() == Path(source.path).resolve():
        raise OutputError(f"{out}: is the input and would be replaced; choose another --out")
    process = WorkerProcess(Spotter)
    try:
        (spotted,) = process.ask("spot", (source, settings.time, settings.min_face, settings.score), lambda _: None)
    except VideoError as error:
        raise InputError(str(error)) from None
    finally:
        process.close()
    picture, found, pts_seconds = spotted
    if not len(found):
        at = "" if pts_seconds is None else f" at {pts_seconds:.3f} s"
        raise InputError(f"{source.name}: found no face{at}; a lower --min-face or --score finds more")
    tracks = None if pts_seconds is None or not settings.tracks else _tracks(settings, found, pts_seconds)
    rows = _rows(found, tracks)
    try:
        with written_atomically(out) as unfinished:
            _drawn(picture, rows).save(unfinished, Image.registered_extensions()[out.suffix.lower()])
    except OSError as error:
        raise cannot_be_written(out, error) from None
    _print(rows)
    return {"input": source.name, "pts_seconds": pts_seconds, "faces": rows, "out": str(out), "exit_code": 0}


class Spotter:
    """Opens the file, which may be anyone's, in a process of its own."""

    def __init__(self) -> None:
        self.tick: Callable[[Any], None] = lambda progress: None

    def spot(
        self, source: Source, time_seconds: float | None, min_face_px: int, score: float
    ) -> tuple[np.ndarray, Faces, float | None]:
        """The picture uint8 (H, W, 3), its faces, the frame's time. Errors: VideoError."""
        picture, pts_seconds = None, None
        if source.is_image:
            picture = read_still(source.path)
        else:
            with FrameGrabber(source.path) as grabber:
                (frame,) = grabber.frames([-1e9 if time_seconds is None else time_seconds])
            picture, pts_seconds = frame.image, frame.pts_seconds
        assert picture is not None
        (found,) = FaceDetector(min_face_px=min_face_px, score_threshold=score)([picture])
        return picture, found, pts_seconds


def _tracks(settings: FacesSettings, found: Faces, pts_seconds: float) -> list[int | None]:
    """The track of each face, as `embed` numbers it: tracks are known when all of a video was seen."""
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "faces.parquet"
        embed(
            EmbedSettings(
                inputs=settings.inputs,
                out=str(table),
                model=settings.model,
                gpus=settings.gpus,
                min_face=settings.min_face,
                score=settings.score,
                cycle_error=False,
                progress=settings.progress,
            )
        )
        rows = pq.read_table(table, columns=["pts_seconds", "track_id", "x", "y"]).drop_null()
    there = np.abs(rows["pts_seconds"].to_numpy() - pts_seconds) <= SAME_TIME_SECONDS
    corners = np.stack([rows[name].to_numpy()[there] for name in "xy"], axis=1)
    ids = rows["track_id"].to_numpy()[there]
    far = np.linalg.norm(found.boxes[:, None, :2] - corners, axis=2)
    return [
        int(ids[row.argmin()]) if len(row) and row.min() < found.boxes[i, 3] / 4 else None for i, row in enumerate(far)
    ]


def _rows(found: Faces, tracks: list[int | None] | None) -> list[dict[str, Any]]:
    turned = turned_deg(found.landmarks)
    rows = []
    for number, (box, score) in enumerate(zip(found.boxes.tolist(), found.scores.tolist(), strict=True)):
        x, y, w, h = (round(value, 1) for value in box)
        rows.append(
            {
                "number": number,
                **({} if tracks is None else {"track": tracks[number]}),
                **{"x": x, "y": y, "w": w, "h": h, "score": round(score, 3), "size": round(max(w, h))},
                "turned_deg": round(float(turned[number])),
            }
        )
    return rows


def _drawn(picture: np.ndarray, rows: list[dict[str, Any]]) -> Image.Image:
    image = Image.fromarray(picture)
    draw, width = ImageDraw.Draw(image), max(2, round(max(image.size) / 400))
    font = ImageFont.load_default(max(14, max(image.size) / 40))
    for row in rows:
        x, y = row["x"], row["y"]
        draw.rectangle((x, y, x + row["w"], y + row["h"]), outline=(255, 220, 0), width=width)
        text = str(row["number"]) if row.get("track") is None else f"{row['number']} (track {row['track']})"
        corner = max(x, 0), max(y, 0)
        draw.rectangle(draw.textbbox(corner, text, font=font), fill=(0, 0, 0))
        draw.text(corner, text, fill=(255, 220, 0), font=font)
    return image


def _print(rows: list[dict[str, Any]]) -> None:
    console = Console(stderr=True)
    if not console.is_terminal:
        return
    table = Table()
    names = [name for name in COLUMNS if name in rows[0]]
    for name in names:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*("-" if row[name] is None else str(row[name]) for name in names))
    console.print(table)
