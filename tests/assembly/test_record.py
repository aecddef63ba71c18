"""What is on record of an output counts only while the files are the ones that it was made of."""

from __future__ import annotations

import os
from pathlib import Path

from fcvideo.assembly.orders import altered, seen_sources
from fcvideo.assembly.record import Records
from fcvideo.tables.parts import Parts
from fcvideo.video.probe import dated_fingerprint, fingerprint


def test_a_source_that_was_edited_is_rendered_again(tmp_path: Path):
    video = tmp_path / "a.mp4"
    video.write_bytes(os.urandom(4 << 20))
    place, (order,) = altered(seen_sources([str(video)], "out/", None), None, [str(video)], f"{tmp_path}/out/")
    source = order.source.source
    parts = Parts(place.parts_folder)
    parts.claim({}, "inputs", overwrite=False)

    def is_finished() -> bool:
        records = Records(place, parts, {}, is_fresh=False)
        return records.finished(order, {"source": dated_fingerprint(source), "target": None}) is not None

    for recorded in (dated_fingerprint(source), fingerprint(source)):  # the second is an earlier version's
        records = Records(place, parts, {}, is_fresh=False)
        ids = {"source": recorded, "target": None}
        records.begin(order, ids)
        order.path.write_bytes(b"rendered")
        records.finish(order, {"output": order.name, "status": "ok", "ids": ids})
        assert is_finished()
        before = fingerprint(source)
        with video.open("r+b") as file:
            file.seek(400_000)  # between two samples
            file.write(os.urandom(1000))
        assert fingerprint(source) == before
        assert is_finished() == ("@" not in recorded)
    parts.release()
