"""Which outputs a rendering job makes of which inputs, and under which names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeVar
from urllib.parse import urlsplit

from fcvideo.assembly.names import Claim, give_names, owner_key, read_owners
from fcvideo.atomic import beside, too_long
from fcvideo.errors import InputError, OutputError
from fcvideo.tables.columns import read_columns
from fcvideo.video.inputs import Source, local_path, resolve_inputs, tell

WRITTEN_IMAGES = (".png", ".jpg", ".jpeg", ".webp")
VIDEO_SUFFIX = ".mp4"
REENACTED = "reenacted/"


@dataclass(frozen=True)
class MotionSource:
    """A video or picture, or a video's rows in a table: then `source` has the table's path and the video's name."""

    source: Source
    is_table: bool = False

    @property
    def is_image(self) -> bool:
        return not self.is_table and self.source.is_image

    @property
    def key(self) -> str:
        """Unique among all sources."""
        return f"{self.source.path}: {self.source.name}" if self.is_table else self.source.name


@dataclass(frozen=True)
class Order:
    """One output: what it is made of, and where it goes."""

    name: str  # unique within the place
    path: Path
    source: MotionSource
    target: Source | None = None

    @property
    def owner(self) -> str:
        """Of the name, as `owner_key` has it."""
        return _owner(self.source, self.target)


@dataclass(frozen=True)
class Place:
    """Where outputs go: into a folder, or one of them under a name of its own."""

    path: Path
    is_folder: bool

    @property
    def parts_folder(self) -> Path:
        return self.path / ".parts" if self.is_folder else beside(self.path, "", ".parts")

    @property
    def record_path(self) -> Path:
        """What is known of the finished outputs."""
        return self.path / "renderings.json" if self.is_folder else beside(self.path, ".", ".json")


def seen_sources(
    inputs: Sequence[str], out: str, limit: int | None, say: Callable[[str], None] = tell
) -> list[MotionSource]:
    """Videos and pictures; `say` as in `resolve_inputs`. Where `out` lies in a folder of inputs, what is in it are
    results of earlier calls. Errors: InputError.
    """
    folder = local_path(out).resolve()
    is_within = any(root in folder.parents for root in _folders(inputs))
    found = resolve_inputs(inputs, images=True, say=say)
    sources = [source for source in found if not is_within or folder not in Path(source.path).parents][:limit]
    if not sources:
        raise InputError(f"{out}: all inputs lie in the folder for the results; choose another --out")
    for source in sources:
        if source.path.lower().endswith(".parquet"):
            raise InputError(f"{source.path}: found a table, expected videos and pictures; reenact takes tables")
    return [video_source(source) for source in sources]


def video_source(source: Source) -> MotionSource:
    return MotionSource(source)


def one_target(text: str) -> Source:
    """Errors: InputError."""
    targets = resolve_inputs([text], images=True)
    if len(targets) > 1:
        raise InputError(f"{text}: found {len(targets)} files, expected one picture or video of a face")
    return targets[0]


def reenacted(pairs: Sequence[tuple[MotionSource, Source]], out: str | None) -> tuple[Place, list[Order]]:
    """Outputs of sources and targets. Errors: OutputError."""
    claims = []
    for source, target in pairs:
        short, full = f"{_stem(source.source)}-{_stem(target)}", f"{_file_name(source.source)}-{_file_name(target)}"
        claims.append(_claim(source, target, short + _suffix(source), full + _suffix(source)))
    if out is None:
        out = claims[0].short if len(pairs) == 1 else REENACTED
    return _place(pairs, claims, out)


def altered(
    sources: Sequence[MotionSource], target: Source | None, given: Sequence[str], out: str
) -> tuple[Place, list[Order]]:
    """Outputs of sources alone; those of a folder among `given` keep their place in it. Errors: OutputError."""
    roots = _folders(given)
    claims = []
    for source in sources:
        relative, suffix = _relative(source.source, roots), _suffix(source)
        if source.is_image and relative.suffix.lower() in WRITTEN_IMAGES:
            suffix = relative.suffix
        short = relative.with_suffix(suffix).as_posix()
        full = short if relative.suffix == suffix else f"{relative.as_posix()}{suffix}"
        claims.append(_claim(source, target, short, full))
    return _place([(source, target) for source in sources], claims, out)


def _claim(source: MotionSource, target: Source | None, short: str, full: str) -> Claim:
    return Claim(_owner(source, target), short, full, source.source, target)


def _owner(source: MotionSource, target: Source | None) -> str:
    video = source.source.name if source.is_table else None
    return owner_key(source.source.path, video, None if target is None else target.path)


def _place(
    pairs: Sequence[tuple[MotionSource, Source | None]], claims: Sequence[Claim], out: str
) -> tuple[Place, list[Order]]:
    path = local_path(out)
    if problem := too_long(path):
        raise OutputError(f"{out}: {problem}; choose another --out")
    is_folder = out.endswith("/") or path.is_dir() or not path.suffix
    if not is_folder and len(pairs) > 1:
        raise OutputError(f"{out}: found a file's name for {len(pairs)} results, expected a folder's name with /")
    place = Place(path, is_folder)
    if is_folder:
        names = give_names(claims, read_owners(place.record_path, place.parts_folder))
        orders = [Order(name, path / name, *pair) for name, pair in zip(names, pairs, strict=True)]
    else:
        orders = [Order(path.name, path, *pairs[0])]
    for order in orders:
        _check(order)
    return place, orders


def _check(order: Order) -> None:
    """Refuses names that say another kind of file, and those of what is read. Errors: OutputError."""
    known = WRITTEN_IMAGES if order.source.is_image else (VIDEO_SUFFIX,)
    if order.path.suffix.lower() not in known:
        raise OutputError(f"{order.path}: found the suffix {order.path.suffix}, expected {', '.join(known)}")
    inputs = [order.source.source, *([] if order.target is None else [order.target])]
    for source in inputs:
        if source.scheme is None and order.path.resolve() == Path(source.path).resolve():
            raise OutputError(f"{order.path}: is an input and would be replaced; choose another --out")


def _folders(inputs: Sequence[str]) -> list[Path]:
    paths = [local_path(text) for text in inputs]
    return [path.resolve() for path in paths if path.is_dir()]


def _relative(source: Source, roots: Sequence[Path]) -> Path:
    """Its place in the folder that it was found in, or its file name."""
    if source.scheme is not None:
        return Path(PurePosixPath(urlsplit(source.path).path).name or "video")
    if source.place:
        return Path(source.place)
    path = Path(source.path)
    for root in roots:
        if path.is_relative_to(root):
            return path.relative_to(root)
    return Path(path.name)


def _stem(source: Source) -> str:
    return PurePosixPath(_file_name(source)).stem


def _file_name(source: Source) -> str:
    """Of the file; of a table's video, whose name it is."""
    return PurePosixPath(urlsplit(source.name).path if source.scheme else source.name).name or "video"


def _suffix(source: MotionSource) -> str:
    return WRITTEN_IMAGES[0] if source.is_image else VIDEO_SUFFIX


def read_pairs(
    path: Path, sources: Sequence[MotionSource], targets: Sequence[Source]
) -> list[tuple[MotionSource, Source]]:
    """The pairs that a table names by file name or path. Errors: InputError."""
    columns = read_columns(path, {"source": "text", "target": "text"})
    by_source = _by_name([(source.source, source) for source in sources])
    by_target = _by_name([(target, target) for target in targets])
    pairs: dict[tuple[str, str], tuple[MotionSource, Source]] = {}
    for row, (source_name, target_name) in enumerate(zip(columns["source"], columns["target"], strict=True), start=1):
        source = _named(source_name, by_source, f"{path}, row {row}", "--source")
        target = _named(target_name, by_target, f"{path}, row {row}", "--target")
        pairs[source.key, target.name] = source, target
    if not pairs:
        raise InputError(f"{path}: found no row, expected pairs of source and target")
    return list(pairs.values())


Entry = TypeVar("Entry")


def _by_name(entries: Sequence[tuple[Source, Entry]]) -> dict[str, list[Entry]]:
    """Entries by every name that may stand for them."""
    known: dict[str, list[Entry]] = {}
    for source, entry in entries:
        for name in {source.name, source.path, PurePosixPath(source.name).name}:
            known.setdefault(name, []).append(entry)
    return known


def _named(name: str | None, known: dict[str, list[Entry]], where: str, flag: str) -> Entry:
    found = known.get(name or "") or known.get(str(local_path(name or "").resolve())) or []
    if len(found) == 1:
        return found[0]
    expected = f"a file of {flag}" if not found else f"its path: {len(found)} files of {flag} have this name"
    raise InputError(f"{where}: found {name!r}, expected {expected}")
