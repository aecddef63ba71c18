"""What is known of every output: in the record that earlier runs left, and in the parts of the one under way.

<place>/renderings.json, or .OUT.json beside a single file OUT:   identity, and a row for every finished output
<parts>/<output>/order.json     of what the output is made; whoever wrote it may replace the output
<parts>/<output>/owner.json     its name, and whose it is, as `names` has it
<parts>/<output>/00003.mp4      its finished segments, and 00003.json, their counts
<parts>/<output>/done.json      its row, when it is finished
"""

from __future__ import annotations

import errno
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fcvideo.assembly.names import OWNER_FILE, Ids, is_same_content
from fcvideo.assembly.orders import Order, Place
from fcvideo.atomic import clear_leftovers, write_json
from fcvideo.errors import OutputError, VideoError
from fcvideo.survey.ledger import WORTH_ANOTHER_TRY
from fcvideo.tables.parts import Parts, refuse_other_identity, video_key

_OF_THE_NAME = (errno.ENAMETOOLONG, errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.EINVAL, errno.EILSEQ)


class Records:
    """Rows are plain dicts: output, source, target, status, error, counts, the fingerprints as `ids`, and `owner`."""

    def __init__(self, place: Place, parts: Parts, identity: dict[str, Any], *, is_fresh: bool) -> None:
        self._place, self._parts, self._identity, self._is_fresh = place, parts, identity, is_fresh
        self._earlier = self._read(place.record_path)

    def _read(self, path: Path) -> dict[str, dict[str, Any]]:
        """Rows by output. Errors: OutputError for those of another identity, unless the run begins anew."""
        try:
            found = json.loads(path.read_text())
            identity, rows = found["identity"], found["outputs"]
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise OutputError(f"{path}: not a record of renderings ({type(error).__name__})") from None
        if self._is_fresh:
            return rows if identity == self._identity else {}
        refuse_other_identity(path, identity, self._identity)
        return rows

    def finished(self, order: Order, ids: Ids) -> dict[str, Any] | None:
        """The row of an output that needs nothing more. Errors: OutputError for a file of other origin at its place."""
        begun = self._json(order, "order.json")
        earlier = self._earlier.get(order.name)
        if self._is_fresh:
            return None
        for row in (self._json(order, "done.json"), earlier):
            if row is None or not _are_same(row["ids"], ids) or row["status"] in WORTH_ANOTHER_TRY:
                continue
            if row["status"] != "ok" or order.path.exists():
                return row
        if earlier is not None and order.path.exists() and self._is_anothers(earlier, order, ids):
            raise OutputError(
                f"{order.path}: was made of {earlier['source']}; --overwrite replaces it, another --out keeps both"
            )
        if order.path.exists() and begun is None and earlier is None:
            raise OutputError(f"{order.path}: is there already, and not from this command; --overwrite replaces it")
        return None

    @staticmethod
    def _is_anothers(row: dict[str, Any], order: Order, ids: Ids) -> bool:
        return row.get("owner", order.owner) != order.owner and not is_same_content(row["ids"], ids)

    def begin(self, order: Order, ids: Ids) -> None:
        """Makes room for its parts; those of another content go.

        Errors: VideoError where the file system does not take the name, OutputError where it takes none.
        """
        if not _are_same(self._json(order, "order.json") or ids, ids) or self._json(order, "done.json"):
            self._parts.discard_video(output_key(order))
        try:
            self.folder(order).mkdir(exist_ok=True)
            order.path.parent.mkdir(parents=True, exist_ok=True)
            write_json(self.folder(order) / "order.json", ids)
            write_json(self.folder(order) / OWNER_FILE, {"output": order.name, "owner": order.owner, "ids": ids})
            clear_leftovers(order.path.parent, order.path.name)
            for leftover in self.folder(order).glob(".*.unfinished"):
                leftover.unlink()
        except OSError as error:
            message = f"{order.path}: cannot be written ({error.strerror or error})"
            raise VideoError("error", message) if error.errno in _OF_THE_NAME else OutputError(message) from None

    def folder(self, order: Order) -> Path:
        return self._parts.folder / output_key(order)

    def has_results(self, order: Order) -> bool:
        """Whether a segment is rendered, or all of it."""
        return any(part.stem.isdigit() or part.name == "done.json" for part in self.folder(order).glob("*.json"))

    def finish(self, order: Order, row: dict[str, Any]) -> None:
        """Keeps the row, and drops the parts of an output that needs nothing more."""
        if row["status"] in WORTH_ANOTHER_TRY:
            return
        write_json(self.folder(order) / "done.json", row)
        for part in self.folder(order).iterdir():
            if part.name not in ("order.json", "done.json", OWNER_FILE):
                part.unlink()

    def forget(self, orders: Iterable[Order]) -> None:
        """Strikes outputs that are begun anew from the record, so that a run after this one goes on with them."""
        names = {order.name for order in orders}
        self._earlier = {name: row for name, row in self._earlier.items() if name not in names}
        if self._place.record_path.exists():
            self.close([])

    def close(self, rows: Iterable[dict[str, Any]]) -> None:
        """Writes the record of all outputs, those of earlier calls too."""
        outputs = self._earlier | {row["output"]: row for row in rows}
        write_json(self._place.record_path, {"identity": self._identity, "outputs": outputs})

    def _json(self, order: Order, name: str) -> dict[str, Any] | None:
        try:
            return json.loads((self.folder(order) / name).read_text())
        except (FileNotFoundError, NotADirectoryError):
            return None


def output_key(order: Order) -> str:
    """Folder name of an output's parts; no source's."""
    return video_key(f"output {order.name}")


def _are_same(known: Ids | None, ids: Ids) -> bool:
    """What an earlier version recorded has no dates: then the fingerprints decide."""
    if known is None or known.keys() != ids.keys():
        return False
    return all(known[name] in (now, now and now.partition("@")[0]) for name, now in ids.items())
