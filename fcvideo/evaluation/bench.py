"""What the tasks of `evaluate` work with: features of labelled pictures, or codes of faces embedded already."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from fcvideo.config import EvaluateSettings
from fcvideo.errors import SettingsError
from fcvideo.evaluation.embedded_sets import CODES, EmbeddedFaces, read_embedded_faces, split_embedded
from fcvideo.evaluation.expression_sets import number_labels, read_expression_sets, sorted_classes
from fcvideo.evaluation.features import MODEL_FEATURES, Feature, extract, make_features
from fcvideo.evaluation.leakage import Pairs, Split
from fcvideo.evaluation.pictures import FaceCrops, LabelledSet, PairSet, Pictures, PoseSet, WithMirrored
from fcvideo.evaluation.pose_sets import ANGLES, read_pose_sets
from fcvideo.evaluation.verification_sets import draw_pairs, read_pair_set
from fcvideo.faces.crop import Framing
from fcvideo.models.facecycle import FaceCycle
from fcvideo.models.store import load_config, load_model
from fcvideo.running.devices import resolve_gpus
from fcvideo.running.progress import Reporter
from fcvideo.tables.columns import Kind

SIDE_BY_SIDE = ("expression", "identity", "map", "hog", "lbp", "pixels")
MIRRORED_SIGNS = np.array([-1, 1, -1])  # of yaw, pitch, roll
DEFAULT_FEATURES = {
    "expression": SIDE_BY_SIDE,
    "pose": SIDE_BY_SIDE,
    "verification": SIDE_BY_SIDE,
    "identity-kept": ("identity", "hog"),
    "leakage": CODES,
    "reconstruction": (),
}


@dataclass(frozen=True)
class SplitData:
    """A labelled data set as features; `faces` are the test part's, None for a table of embeddings."""

    split: Split
    faces: FaceCrops | None
    classes: tuple[str, ...] = ()
    people: np.ndarray | None = None  # whose `faces` are, where known


@dataclass(frozen=True)
class PairData:
    pairs: Pairs
    faces: FaceCrops | None


class Bench:
    """The model, its device, the features asked for, and what the run has to tell besides its numbers."""

    def __init__(self, settings: EvaluateSettings, reporter: Reporter) -> None:
        assert settings.task is not None
        self.settings, self.reporter = settings, reporter
        self.device = "cuda" if resolve_gpus(settings.gpus) else "cpu"
        self.out = Path(settings.out or Path("evaluation") / settings.task)
        self.figures: list[Path] = []
        self.facts: dict[str, Any] = {}  # counts of the data set, for the result
        self._said: set[str] = set()

    @property
    def seeds(self) -> range:
        return range(self.settings.seeds)

    @property
    def feature_names(self) -> tuple[str, ...]:
        if self.settings.features is not None:
            names = [name.strip() for name in self.settings.features.split(",")]
            if not any(names):
                raise SettingsError(f"features: found {self.settings.features!r}, expected names with commas between")
            return tuple(dict.fromkeys(name for name in names if name))
        assert self.settings.task is not None
        return CODES if self.settings.embeddings else DEFAULT_FEATURES[self.settings.task]

    @cached_property
    def model(self) -> FaceCycle:
        return load_model(self.settings.model).to(self.device)

    @cached_property
    def features(self) -> list[Feature]:
        weights, moco = self.settings.imagenet_weights, self.settings.moco
        for flag, given, readers in (
            ("imagenet-weights", weights, ("imagenet",)),
            ("moco", moco, ("moco", "moco-map")),
        ):
            if given and not set(readers) & set(self.feature_names):
                raise SettingsError(f"--{flag}: none of the features asked for reads it; {' and '.join(readers)} do")
        return make_features(
            self.feature_names,
            self.model if set(self.feature_names) & set(MODEL_FEATURES) else None,
            self.device,
            imagenet_weights=Path(weights) if weights else None,
            moco=Path(moco) if moco else None,
        )

    @cached_property
    def framing(self) -> Framing:
        config = load_config(self.settings.model)
        return Framing.of(config)

    def load(self) -> None:
        """Networks first: a wrong name should not cost the reading of a data set."""
        if self.features == [] or self.settings.task == "identity-kept":
            _ = self.model

    def figure(self, name: str) -> Path:
        """Where to draw it; the report shows figures in this order."""
        self.figures.append(self.out / f"{name}.png")
        return self.figures[-1]

    def crops(self, pictures: Pictures) -> FaceCrops:
        if self.settings.faces != "auto":
            pictures = replace(pictures, are_crops=self.settings.faces == "ready")
        elif any(isinstance(source, Path) for source in pictures.sources[:1]):  # files may be either
            taken, other = ("taken as face crops", "detect") if pictures.are_crops else ("searched for faces", "ready")
            self._say_once(f"pictures of this data set are {taken}; --faces {other} does otherwise")
        return FaceCrops(pictures, self.framing, self.settings.crop_factor)

    def _say_once(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self.reporter.say(text)

    def extract(self, faces: FaceCrops | WithMirrored, phase: str) -> dict[str, np.ndarray]:
        self.reporter.begin(phase, len(faces))
        found = extract(
            faces,
            self.features,
            self.settings.batch_size,
            lambda done: self.reporter.update(done, pictures=done),
        )
        self.reporter.end()
        if faces.without_face:
            self.add_fact("num_without_face", len(faces.without_face))
            first = faces.pictures.names[min(faces.without_face)]
            self.reporter.say(
                f"{phase}: no face found in {len(faces.without_face)} of {len(faces)} pictures (the first: {first}); "
                "their central squares are taken"
            )
        return found

    def add_fact(self, name: str, count: int) -> None:
        self.facts[name] = self.facts.get(name, 0) + count

    def draw(self, count: int) -> np.ndarray:
        """Positions, rising, of the rows that --limit leaves of `count`; drawn, for files may be sorted by class."""
        limit = self.settings.limit
        if limit is None or limit >= count:
            return np.arange(count)
        return np.sort(np.random.default_rng(0).choice(count, limit, replace=False))

    # Data sets, from pictures or from a table of embeddings

    def expression_data(self) -> SplitData:
        if self.settings.embeddings is None:
            train, test = read_expression_sets(*self._train_and_test())
            return self._picture_split(train, test, train.classes)
        columns, codes, groups, train_rows, test_rows = self._embedded_split({"label": "text"})
        classes = sorted_classes(set(columns["label"]))
        labels = number_labels(columns["label"], classes)
        return SplitData(_split(codes, labels, train_rows, test_rows, groups), None, classes)

    def pose_data(self) -> SplitData:
        if self.settings.embeddings is None:
            train, test = read_pose_sets(*self._train_and_test())
            skipped = train.num_skipped + test.num_skipped
            if skipped:
                self.add_fact("num_skipped", skipped)
                self.reporter.say(f"{skipped:,} pictures skipped: without angles, or beyond the data set's protocol")
            return self._picture_split(train, test)
        columns, codes, groups, train_rows, test_rows = self._embedded_split(dict.fromkeys(ANGLES, "number"))
        angles = np.stack([columns[name] for name in ANGLES], axis=1)
        return SplitData(_split(codes, angles, train_rows, test_rows, groups), None)

    def pair_set(self) -> PairSet:
        """The pairs that --images and --pairs name, without pictures that no pair needs."""
        images, pairs = self.settings.images, self.settings.pairs
        assert images is not None
        found = read_pair_set(Path(images), Path(pairs) if pairs else None)
        kept = self.draw(len(found.same))
        self.facts["num_pairs"] = len(kept)
        self.facts["num_same"] = int(found.same[kept].sum())
        used, positions = np.unique(np.concatenate([found.first[kept], found.second[kept]]), return_inverse=True)
        first, second = positions[: len(kept)], positions[len(kept) :]
        return PairSet(found.pictures.subset(used), first, second, found.same[kept], found.folds[kept])

    def pair_data(self) -> PairData:
        if self.settings.embeddings is None:
            found = self.pair_set()
            faces = self.crops(found.pictures)
            x = self.extract(faces, "pictures")
            return PairData(Pairs(x, found.first, found.second, found.same, found.folds), faces)
        assert self.settings.labels is not None
        faces_found = self._embedded({"person": "text"})
        pairs = draw_pairs(faces_found.labels["person"], faces_found.clips.tolist())
        self.facts |= {"num_pairs": len(pairs[2]), "num_same": int(pairs[2].sum())}
        return PairData(Pairs(faces_found.codes, *pairs), None)

    def _train_and_test(self) -> tuple[Path, Path | None]:
        train, test = self.settings.train, self.settings.test
        assert train is not None
        return Path(train), Path(test) if test else None

    def _picture_split(
        self, train: LabelledSet | PoseSet, test: LabelledSet | PoseSet, classes: tuple[str, ...] = ()
    ) -> SplitData:
        train, test = (part.subset(self.draw(len(part.pictures))) for part in (train, test))
        train_faces, test_faces = self.crops(train.pictures), self.crops(test.pictures)
        self._count(len(train_faces), len(test_faces))
        train_y, groups = _targets(train), _usable(train.groups)
        if isinstance(train, PoseSet) and self.settings.mirror:
            train_x = self.extract(WithMirrored(train_faces), "training pictures")
            train_y = np.concatenate([train_y, train_y * MIRRORED_SIGNS])
            groups = None if groups is None else np.concatenate([groups, groups])
        else:
            train_x = self.extract(train_faces, "training pictures")
        test_x = self.extract(test_faces, "test pictures")
        return SplitData(
            Split(train_x, train_y, test_x, _targets(test), groups), test_faces, classes, _usable(test.groups)
        )

    def _embedded_split(
        self, columns: Mapping[str, Kind]
    ) -> tuple[Mapping[str, Any], Mapping[str, np.ndarray], np.ndarray, np.ndarray, np.ndarray]:
        """Columns of the labels, codes, clips, and the rows to train on and to test on."""
        assert self.settings.labels is not None
        faces = self._embedded(columns)
        train, test = split_embedded(faces, Path(self.settings.labels))
        self._count(len(train), len(test))
        return faces.labels, faces.codes, faces.clips, train, test

    def _embedded(self, columns: Mapping[str, Kind]) -> EmbeddedFaces:
        embeddings, labels = self.settings.embeddings, self.settings.labels
        assert embeddings is not None
        assert labels is not None
        faces = read_embedded_faces(Path(embeddings), Path(labels), columns, self.feature_names, self.settings.limit)
        if faces.num_unmatched:
            self.facts["num_unmatched"] = faces.num_unmatched
            self.reporter.say(f"{labels}: {faces.num_unmatched:,} rows are incomplete or fit no face, and are left out")
        return faces

    def _count(self, num_train: int, num_test: int) -> None:
        self.facts |= {"num_train": num_train, "num_test": num_test}


def _targets(part: LabelledSet | PoseSet) -> np.ndarray:
    return part.labels if isinstance(part, LabelledSet) else part.angles_deg


def _split(
    x: Mapping[str, np.ndarray], y: np.ndarray, train: np.ndarray, test: np.ndarray, groups: np.ndarray
) -> Split:
    train_x, test_x = ({name: values[rows] for name, values in x.items()} for rows in (train, test))
    return Split(train_x, y[train], test_x, y[test], _usable(groups[train]))


def _usable(groups: np.ndarray | None) -> np.ndarray | None:
    """Groups, where there are several: one alone can neither be held out nor compared."""
    return groups if groups is not None and len(np.unique(groups)) > 1 else None
