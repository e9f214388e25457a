"""Runs side by side by what came of them: a training is compared by the evaluation of its answers.

pass@1 and verdicts belong to the run that evaluated. Whoever compares two trainings asks which of
them led to the better one, so their family is followed to it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from db.records import RunRecord

if TYPE_CHECKING:
    from db import Store
    from db.comparison import Comparison


@dataclass(frozen=True)
class Measured:
    """A comparison whose scores and flips are those of ``by``, a run for each; None without one."""

    comparison: "Comparison"
    by: tuple[RunRecord | None, ...]


def evaluation_of(store: "Store", run: RunRecord) -> RunRecord | None:
    """The run whose scores say how good ``run`` is: itself, or the newest one below it.

    An export is as good as the generation that it was made of.
    """
    level = [run]
    if run.kind == "export" and run.parent_id is not None:
        level.append(store.get_run(run.parent_id))
    seen: set[str] = set()
    while level:
        for one in level:
            if one.scored and (one.id == run.id or one.status == "finished"):
                return one
        seen.update(one.id for one in level)
        children = [c for parent in level for c in store.children(parent.id) if c.id not in seen]
        level = sorted(children, key=lambda child: child.created_at, reverse=True)
    return None


def compare_measured(store: "Store", run_ids: Sequence[str]) -> Measured:
    """Compare runs, each by its own evaluation. Raises as ``Store.compare`` does."""
    from db.comparison import Flips, ScoreComparison

    found = store.compare(run_ids)
    by = tuple(evaluation_of(store, run) for run in found.runs)
    if all(one is None or one.id == run.id for one, run in zip(by, found.runs, strict=True)):
        return Measured(found, by)
    scores = [
        {} if one is None else {score.task: score.pass_at_1 for score in store.scores(one.id)}
        for one in by
    ]
    tasks = sorted({task for own in scores for task in own})
    first = by[0]
    flips = tuple(
        Flips(0, 0, 0, 0, ())
        if first is None or other is None or first.id == other.id
        else store.flips(first.id, other.id)
        for other in by[1:]
    )
    compared = tuple(
        ScoreComparison(task, tuple(own.get(task) for own in scores)) for task in tasks
    )
    return Measured(replace(found, scores=compared, flips=flips), by)
