"""Which output gets which name in a folder. A name stays with what it was first given to, whatever comes later."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from fcvideo.errors import VideoError
from fcvideo.video.inputs import Source
from fcvideo.video.probe import fingerprint

OWNER_FILE = "owner.json"  # in the folder of an output's parts: its name and whose it is

Ids = dict[str, str | None]  # fingerprints of what an output is made of: `source` and `target`


def owner_key(*origins: str | None) -> str:
    """Whose a name is: a digest of where the files lie that the output is made of."""
    return hashlib.sha256(os.fsencode("\n".join(origin or "" for origin in origins))).hexdigest()[:20]


def is_same_content(known: Ids | None, ids: Ids) -> bool:
    """By the fingerprints alone, whatever follows them after an @."""
    return known is not None and _undated(known) == _undated(ids)


def _undated(ids: Ids) -> Ids:
    return {name: value and value.partition("@")[0] for name, value in ids.items()}


@dataclass(frozen=True)
class Claim:
    """What an output may be called: `short`, or, where others are called so too, `full`, which tells suffixes."""

    owner: str
    short: str
    full: str
    source: Source
    target: Source | None

    def ids(self) -> Ids | None:
        """None for files that cannot be read."""
        try:
            target = None if self.target is None else fingerprint(self.target)
            return {"source": fingerprint(self.source), "target": target}
        except VideoError:
            return None


@dataclass(frozen=True)
class Owner:
    """Whose a name is. `ids` None: the files could not be read."""

    key: str
    name: str
    ids: Ids | None


def read_owners(record_path: Path, parts_folder: Path) -> dict[str, Owner]:
    """Of all names that are given, by lower-case name: those that are on record, and those of a run under way."""
    rows: list[Any] = []
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):  # whoever needs the record complains
        rows += json.loads(record_path.read_text())["outputs"].values()
    with suppress(OSError, ValueError):
        rows += [json.loads(path.read_text()) for path in sorted(parts_folder.glob(f"*/{OWNER_FILE}"))]
    owned = [row for row in rows if isinstance(row, dict) and row.get("owner") and row.get("output")]
    owners = [Owner(row["owner"], row["output"], row.get("ids")) for row in owned]
    return {owner.name.lower(): owner for owner in owners}


def give_names(claims: Sequence[Claim], owned: Mapping[str, Owner]) -> list[str]:
    """A name of its own for each; letters' case makes none. `owned` is left to its owners, wherever they lie by now."""
    known = {owner.key: owner.name for owner in owned.values()}
    here = {claim.owner for claim in claims}
    taken = set(owned)
    names: dict[int, str] = {}
    for position, claim in enumerate(claims):
        name = known.get(claim.owner) or _moved(claim, owned, here, set(names.values()))
        if name is not None and PurePosixPath(name).suffix == PurePosixPath(claim.short).suffix:
            names[position] = name
    open_claims = [(position, claim) for position, claim in enumerate(claims) if position not in names]
    wanted = Counter(claim.short.lower() for _, claim in open_claims)
    numbered: dict[str, Iterator[str]] = {}
    for position, claim in sorted(open_claims, key=lambda entry: entry[1].short != entry[1].full):
        is_alone = wanted[claim.short.lower()] == 1 or claim.short == claim.full
        candidates = [claim.short] if is_alone else []
        more = numbered.setdefault(claim.full.lower(), _numbered(claim.full))
        name = next((name for name in candidates if name.lower() not in taken), None)
        names[position] = name or next(name for name in more if name.lower() not in taken)
        taken.add(names[position].lower())
    return [names[position] for position in range(len(claims))]


def _moved(claim: Claim, owned: Mapping[str, Owner], here: set[str], given: set[str]) -> str | None:
    """The name that files of the same content were given when they lay elsewhere."""
    for name in (claim.short, claim.full):
        owner = owned.get(name.lower())
        if owner is not None and owner.key not in here and owner.name not in given:
            ids = claim.ids()
            if ids is not None and is_same_content(owner.ids, ids):
                return owner.name
    return None


def _numbered(full: str) -> Iterator[str]:
    path = PurePosixPath(full)
    yield full
    number = 2
    while True:
        yield str(path.with_name(f"{path.stem}-{number}{path.suffix}"))
        number += 1
