"""How well tracks keep people apart and together, against labels made by eye.

python benchmarks/tracks.py TABLE.. [--labels benchmarks/tracks.csv]

TABLE is what `fcvideo embed` wrote of the labelled videos, which are told by their file names. A label is a person at a
time and a point. Of each video: `fragments` are tracks of a person beyond the first, `switches` changes of track from
label to label of a person, `merges` people of a track beyond the first.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

TOLERANCE_SECONDS = 0.01
Faces = dict[str, np.ndarray]  # columns of one video's faces
Label = tuple[float, float, float, str]  # pts_seconds, x, y, person


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="+", type=Path)
    parser.add_argument("--labels", type=Path, default=Path(__file__).with_suffix(".csv"))
    arguments = parser.parse_args()
    labels: dict[str, list[Label]] = defaultdict(list)
    with arguments.labels.open() as file:
        for row in csv.DictReader(file):
            labels[row["video"]].append((float(row["pts_seconds"]), float(row["x"]), float(row["y"]), row["person"]))
    print(f"{'video':24} labels  found people tracks fragments switches merges")
    for table in arguments.tables:
        for video, faces in read_faces(table).items():
            if video in labels:
                counts = zip(measure(faces, labels[video]), WIDTHS, strict=True)
                print(f"{video:24}", " ".join(f"{count:{width}}" for count, width in counts))


WIDTHS = (6, 6, 6, 6, 9, 8, 6)


def read_faces(path: Path) -> dict[str, Faces]:
    columns = ["pts_seconds", "x", "y", "w", "h", "track_id"]
    table = pq.read_table(path, columns=["video", *columns]).drop_null()
    names = np.array([Path(name).name for name in table["video"].to_pylist()])
    return {name: {c: table[c].to_numpy()[names == name] for c in columns} for name in np.unique(names)}


def measure(faces: Faces, labels: list[Label]) -> tuple[int, ...]:
    """In the order of the heading; a label counts where a box holds its point then."""
    people: dict[str, list[int]] = defaultdict(list)
    for seconds, x, y, person in sorted(labels):
        there = np.flatnonzero(np.abs(faces["pts_seconds"] - seconds) <= TOLERANCE_SECONDS)
        far = np.hypot(*(faces[a][there] + faces[s][there] / 2 - at for a, s, at in (("x", "w", x), ("y", "h", y))))
        near = far < faces["h"][there] / 2
        if near.any():
            people[person].append(int(faces["track_id"][there[np.where(near, far, np.inf).argmin()]]))
    tracks = [set(ids) for ids in people.values()]
    distinct = set().union(*tracks)
    return (
        len(labels),
        sum(map(len, people.values())),
        len(people),
        len(distinct),
        sum(len(ids) - 1 for ids in tracks),
        sum(int(np.count_nonzero(np.diff(ids))) for ids in people.values()),
        sum(sum(track in ids for ids in tracks) - 1 for track in distinct),
    )


if __name__ == "__main__":
    main()
