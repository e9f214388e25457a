"""Holding a replay against the original: numbers, bytes, verdicts.

"Identical" is said of bytes and of nothing else; numbers are equal or differ by so much. Times and
speeds are left out, because nobody expects them back.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from runners.lifecycle.rewritten import Likeness, Moved, held_against, moved_to

if TYPE_CHECKING:
    from db import ArtifactRecord, RunRecord, Store

LOSS_TOLERANCE = 0.02
"""Largest relative difference of a metric's last value."""

SCORE_TOLERANCE = 0.02
"""Largest difference of a task's pass@1."""

_TIMING = re.compile(
    r"(second|time|per_s|speed|throughput|memory|mfu|utili[sz]ation|tokens_s|/s$|elapsed|rss)", re.I
)
_EVERY_POINT = 2**31


@dataclass(frozen=True)
class MetricDelta:
    """A metric in both runs. ``first_difference`` is the first step that is not equal, or None.

    ``relative`` is the difference of the last values over the original's; infinite when only one
    of them is finite or has the metric.
    """

    key: str
    first_difference: int | None
    original: float | None
    replay: float | None
    relative: float


@dataclass(frozen=True)
class ScoreDelta:
    """A task's pass@1 in both runs; None where one has no score."""

    task: str
    original: float | None
    replay: float | None

    @property
    def delta(self) -> float:
        """Replay less original; infinite when one is missing."""
        if self.original is None or self.replay is None:
            return math.inf
        return self.replay - self.original


@dataclass(frozen=True)
class FileDelta:
    """A file both runs should have written. ``standing``: identical, differs, or missing.

    ``original`` and ``replay`` are the SHA-256 of what was compared: the whole file, or what is
    left of it without ``left_out``.
    """

    kind: str
    path: str
    standing: str
    original: str
    replay: str
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunDelta:
    """One run and its replay."""

    original: str
    replay: str
    kind: str
    metrics: tuple[MetricDelta, ...]
    scores: tuple[ScoreDelta, ...]
    files: tuple[FileDelta, ...]
    flipped: tuple[str, ...]

    @property
    def identical(self) -> bool:
        """True when every file both should have written is the same byte for byte, apart from
        what a file's ``left_out`` names."""
        return bool(self.files) and all(f.standing == "identical" for f in self.files)

    @property
    def left_out(self) -> tuple[str, ...]:
        """What was not compared in some file, such as times."""
        return tuple(sorted({name for file in self.files for name in file.left_out}))

    @property
    def problems(self) -> list[str]:
        """What lies outside the tolerance, in sentences."""
        told = [
            f"{m.key}: last value {m.original} became {m.replay} ({m.relative:.1%} off)"
            for m in self.metrics
            if m.relative > LOSS_TOLERANCE
        ]
        told += [
            f"{s.task}: pass@1 {s.original} became {s.replay}"
            for s in self.scores
            if abs(s.delta) > SCORE_TOLERANCE
        ]
        return told


def compare_replay(
    store: "Store", original: "RunRecord", replay: "RunRecord", moved: list[Moved]
) -> RunDelta:
    """Compare one run with its replay; ``moved`` tells where the replay wrote what."""
    return RunDelta(
        original.id,
        replay.id,
        original.kind,
        tuple(_metrics(store, original.id, replay.id)),
        tuple(_scores(store, original.id, replay.id)),
        tuple(_files(store, original, replay, moved)),
        tuple(_flipped(store, original.id, replay.id)),
    )


def _metrics(store: "Store", original: str, replay: str) -> list[MetricDelta]:
    keys = store.latest_metrics(original).keys() | store.latest_metrics(replay).keys()
    return [
        _metric(store, original, replay, key) for key in sorted(keys) if not _TIMING.search(key)
    ]


def _metric(store: "Store", original: str, replay: str, key: str) -> MetricDelta:
    before = {p.step: p.value for p in store.series(original, key, _EVERY_POINT).points}
    after = {p.step: p.value for p in store.series(replay, key, _EVERY_POINT).points}
    different = (s for s in sorted(before.keys() | after) if not _same(before.get(s), after.get(s)))
    last_before = before[max(before)] if before else None
    last_after = after[max(after)] if after else None
    return MetricDelta(
        key, next(different, None), last_before, last_after, _relative(last_before, last_after)
    )


def _same(a: float | None, b: float | None) -> bool:
    if a is None or b is None:
        return False
    return a == b or (math.isnan(a) and math.isnan(b))


def _relative(a: float | None, b: float | None) -> float:
    if a is None or b is None:
        return math.inf
    if _same(a, b):
        return 0.0
    if not (math.isfinite(a) and math.isfinite(b)):
        return math.inf
    return abs(a - b) / max(abs(a), 1e-12)


def _scores(store: "Store", original: str, replay: str) -> list[ScoreDelta]:
    before = {s.task: s.pass_at_1 for s in store.scores(original)}
    after = {s.task: s.pass_at_1 for s in store.scores(replay)}
    return [ScoreDelta(t, before.get(t), after.get(t)) for t in sorted(before.keys() | after)]


def _flipped(store: "Store", original: str, replay: str) -> Iterator[str]:
    """The verdicts that changed, in sentences.

    Sample by sample: a replay draws the same ones, so that as many pass is not yet the same.
    """
    for score in store.scores(original):
        before = store.verdicts(original, score.task)
        after = {(v.index, v.sample): v for v in store.verdicts(replay, score.task)}
        sampled = any(verdict.sample for verdict in before)
        for old in before:
            new = after.get((old.index, old.sample))
            if new is not None and new.passed != old.passed:
                which = f"{old.index} sample {old.sample}" if sampled else f"{old.index}"
                change = f"{old.status} became {new.status}"
                yield f"{score.task} {which} ({old.task_id}): {change}"


def _files(
    store: "Store", original: "RunRecord", replay: "RunRecord", moved: list[Moved]
) -> list[FileDelta]:
    before = {_place(original, artifact): artifact for artifact in store.artifacts(original.id)}
    after = {_place(replay, artifact): artifact for artifact in store.artifacts(replay.id)}
    found = []
    for old, artifact in before.items():
        new = _counterpart(artifact, moved_to(old, moved), before, after)
        match = after.get(new)
        if match is None:
            found.append(FileDelta(artifact.kind, artifact.path, "missing", artifact.sha256, ""))
        elif match.sha256 == artifact.sha256:
            found.append(
                FileDelta(artifact.kind, artifact.path, "identical", artifact.sha256, match.sha256)
            )
        elif old.is_dir() and new.is_dir():
            found += _folder_files(artifact, old, new, moved)
        else:
            found.append(_delta(artifact, artifact.path, held_against(old, new, moved)))
    return found


def _place(run: "RunRecord", artifact: "ArtifactRecord") -> Path:
    return Path(run.folder) / artifact.path


def _counterpart(
    artifact: "ArtifactRecord",
    expected: Path,
    before: "Mapping[Path, ArtifactRecord]",
    after: "Mapping[Path, ArtifactRecord]",
) -> Path:
    """Where the replay's is: where it should be, or wherever the only one of its kind is (a data
    cache is named by the hash of the data)."""
    alike = [place for place, other in after.items() if other.kind == artifact.kind]
    alone = sum(other.kind == artifact.kind for other in before.values()) == 1
    return alike[0] if expected not in after and alone and len(alike) == 1 else expected


def _folder_files(
    artifact: "ArtifactRecord", old: Path, new: Path, moved: list[Moved]
) -> list[FileDelta]:
    """File by file: a note with a date in it must not hide that the weights are the same."""
    names = {p.relative_to(old) for p in old.rglob("*") if p.is_file()}
    names |= {p.relative_to(new) for p in new.rglob("*") if p.is_file()}
    return [
        _delta(
            artifact, str(Path(artifact.path) / name), held_against(old / name, new / name, moved)
        )
        for name in sorted(names)
    ]


def _delta(artifact: "ArtifactRecord", path: str, found: Likeness) -> FileDelta:
    return FileDelta(
        artifact.kind, path, found.standing, found.original, found.replay, found.left_out
    )
