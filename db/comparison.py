"""Two or more runs side by side: only what differs, every task, and the questions that flipped.

Whether flips are more than chance is McNemar's test in its exact form (McNemar 1947; Edwards 1948):
of the questions that one run passes and the other does not, as many should fall on either side as
heads and tails of a fair coin. Questions that both pass or both fail say nothing.

With several samples a question, it has flipped when one run passes more of them than the other, and
the same coin is tossed: that is the sign test, of which McNemar's is the case of one sample. Only
samples that both runs have are counted, since of one sample and of ten the share that passes would
differ without any difference between the runs.
"""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Integer, and_, func, select, type_coerce

from db import tables
from db.errors import QueryError
from db.records import RunRecord
from db.runs import find_run
from db.series import latest_metrics

_COMPARED_FIELDS = ("kind", "status", "model_name", "data_fingerprint", "config_hash", "host")


@dataclass(frozen=True)
class Missing:
    """Stands where a run's config does not have the key at all."""

    def __str__(self) -> str:
        return "—"


MISSING = Missing()


@dataclass(frozen=True)
class Difference:
    """A setting that is not the same in all runs; one value a run, ``MISSING`` without one."""

    key: str
    values: tuple[object, ...]


@dataclass(frozen=True)
class MetricComparison:
    """One metric in each run: the newest value and the finite extremes; None without any."""

    key: str
    newest: tuple[float | None, ...]
    lowest: tuple[float | None, ...]
    highest: tuple[float | None, ...]


@dataclass(frozen=True)
class ScoreComparison:
    """pass@1 of one task in each run; None where it was not scored."""

    task: str
    values: tuple[float | None, ...]


@dataclass(frozen=True)
class Flip:
    """A question of which one run passes more samples than the other, out of ``samples``.

    ``first`` and ``second`` say what came of it: the status, or with several samples "2 of 5
    passed".
    """

    task: str
    index: int
    task_id: str
    samples: int
    first_passed: int
    second_passed: int
    first: str
    second: str

    @property
    def lost(self) -> bool:
        """Whether the second run passes fewer."""
        return self.second_passed < self.first_passed


@dataclass(frozen=True)
class Flips:
    """The questions that two runs both answered, in a two by two table.

    ``lost`` and ``gained`` are questions of which the second run passes fewer or more samples;
    ``both`` and ``neither`` those of which the two pass equally many, any or none. ``samples`` is
    the most that were compared of a question.
    """

    both: int
    lost: int
    gained: int
    neither: int
    questions: tuple[Flip, ...]
    samples: int = 1

    @property
    def compared(self) -> int:
        """Questions that both runs have a verdict on."""
        return self.both + self.lost + self.gained + self.neither

    @property
    def p_value(self) -> float:
        """Chance of a table at least this lopsided when the runs are equally good."""
        return mcnemar_exact(self.lost, self.gained)

    @property
    def test(self) -> str:
        """Whose exact p-value that is."""
        return "McNemar's" if self.samples == 1 else "the sign test's"


@dataclass(frozen=True)
class Comparison:
    """Runs side by side; ``flips`` compares the first with each of the others, in their order."""

    runs: tuple[RunRecord, ...]
    differences: tuple[Difference, ...]
    metrics: tuple[MetricComparison, ...]
    scores: tuple[ScoreComparison, ...]
    flips: tuple[Flips, ...]


def mcnemar_exact(only_first: int, only_second: int) -> float:
    """Two-sided p-value of McNemar's exact test for these discordant pairs; 1 without any."""
    pairs = only_first + only_second
    tail = ways = 1
    for k in range(min(only_first, only_second)):
        # From C(n, k) to C(n, k + 1): a whole new coefficient each time is a hundred times slower.
        ways = ways * (pairs - k) // (k + 1)
        tail += ways
    return min(1.0, 2 * tail / (1 << pairs))


def compare(connection: Connection, run_ids: Sequence[str]) -> Comparison:
    """Compare two runs or more, by whole id or unique prefix.

    Raises ``RunNotFoundError`` and its kin, and ``QueryError`` for fewer than two.
    """
    if len(run_ids) < 2:
        raise QueryError("comparing takes two runs or more")
    runs = tuple(find_run(connection, given) for given in run_ids)
    return Comparison(
        runs,
        tuple(differences(runs)),
        tuple(_metrics(connection, runs)),
        tuple(_scores(connection, runs)),
        tuple(flips(connection, runs[0].id, other.id) for other in runs[1:]),
    )


def differences(runs: Sequence[RunRecord]) -> list[Difference]:
    """The settings and facts that are not the same in all runs, settings by key."""
    configs = [_flattened(_settings(run.config)) for run in runs]
    keys = sorted({key for config in configs for key in config})
    columns = [(key, tuple(config.get(key, MISSING) for config in configs)) for key in keys]
    facts = [(name, tuple(getattr(run, name) for run in runs)) for name in _COMPARED_FIELDS]
    return [
        Difference(key, values)
        for key, values in facts + columns
        if not all(_same(value, values[0]) for value in values)
    ]


def _same(a: object, b: object) -> bool:
    """Equal, where true is not 1 (though 1.0 is)."""
    return a == b and isinstance(a, bool) == isinstance(b, bool)


def flips(connection: Connection, first: str, second: str) -> Flips:
    """The questions on which two runs disagree, and how many they agree on."""
    a, b = tables.verdict.alias(), tables.verdict.alias()
    same = and_(
        b.c.run_id == second,
        b.c.task == a.c.task,
        b.c.index == a.c.index,
        b.c.sample == a.c.sample,
    )
    rows = connection.execute(
        select(
            a.c.task,
            a.c.index,
            func.min(a.c.task_id),
            func.count(),
            func.sum(type_coerce(a.c.passed, Integer)),
            func.sum(type_coerce(b.c.passed, Integer)),
            func.min(a.c.status),
            func.min(b.c.status),
        )
        .select_from(a.join(b, same))
        .where(a.c.run_id == first)
        .group_by(a.c.task, a.c.index)
        .order_by(a.c.task, a.c.index)
    )
    both = neither = 0
    samples = 1
    flipped: list[Flip] = []
    for task, index, task_id, compared, passed, then, was, became in rows:
        samples = max(samples, compared)
        if passed != then:
            words = (_outcome(was, passed, compared), _outcome(became, then, compared))
            flipped.append(Flip(task, index, task_id, compared, passed, then, *words))
        elif passed:
            both += 1
        else:
            neither += 1
    lost = sum(flip.lost for flip in flipped)
    return Flips(both, lost, len(flipped) - lost, neither, tuple(flipped), samples)


def _outcome(status: str, passed: int, samples: int) -> str:
    return status if samples == 1 else f"{passed} of {samples} passed"


def _metrics(connection: Connection, runs: Sequence[RunRecord]) -> list[MetricComparison]:
    newest = [latest_metrics(connection, run.id) for run in runs]
    extremes = [_extremes(connection, run.id) for run in runs]
    return [
        MetricComparison(
            key,
            tuple(points[key].value if key in points else None for points in newest),
            tuple(found[key][0] if key in found else None for found in extremes),
            tuple(found[key][1] if key in found else None for found in extremes),
        )
        for key in sorted({key for points in newest for key in points})
    ]


def _extremes(connection: Connection, run_id: str) -> dict[str, tuple[float | None, float | None]]:
    metric, key = tables.metric, tables.metric_key
    rows = connection.execute(
        select(
            key.c.name,
            func.min(metric.c.value).label("lowest"),
            func.max(metric.c.value).label("highest"),
        )
        .join_from(metric, key)
        .where(metric.c.run_id == run_id)
        .group_by(metric.c.key_id)
    )
    return {row.name: (row.lowest, row.highest) for row in rows}


def _scores(connection: Connection, runs: Sequence[RunRecord]) -> list[ScoreComparison]:
    ids = [run.id for run in runs]
    score = tables.task_score.c
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for run_id, task, pass_at_1 in connection.execute(
        select(score.run_id, score.task, score.pass_at_1).where(score.run_id.in_(ids))
    ):
        found[task][run_id] = pass_at_1
    return [
        ScoreComparison(task, tuple(found[task].get(run_id) for run_id in ids))
        for task in sorted(found)
    ]


def _settings(config: str) -> dict[str, Any]:
    try:
        settings = json.loads(config)
    except ValueError:
        return {}
    return settings if isinstance(settings, dict) else {}


def _flattened(settings: dict[str, Any], prefix: str = "") -> dict[str, object]:
    """Nested mappings as one, with dotted keys; lists stay whole."""
    flat: dict[str, object] = {}
    for key, value in settings.items():
        if isinstance(value, dict) and value:
            flat |= _flattened(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
