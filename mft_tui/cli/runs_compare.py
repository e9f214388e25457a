"""Two or more runs side by side, as tables: a column a run."""

import json as jsonlib
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table

from mft_tui.cli.output import data
from mft_tui.cli.tables import print_table

if TYPE_CHECKING:
    from db.comparison import Comparison, Flips

_SHOWN_FLIPS = 40


def comparison_to_json(comparison: "Comparison") -> dict[str, Any]:
    """Plain values in the order of the runs, None where a run has none."""
    first, *others = comparison.runs
    return {
        "runs": [
            {"id": r.id, "name": r.name, "kind": r.kind, "status": r.status}
            for r in comparison.runs
        ],
        "differences": {d.key: [_plain(v) for v in d.values] for d in comparison.differences},
        "metrics": {m.key: list(m.newest) for m in comparison.metrics},
        "pass_at_1": {s.task: list(s.values) for s in comparison.scores},
        "flips": [
            {
                "from": first.id,
                "to": other.id,
                "compared": flips.compared,
                "lost": flips.lost,
                "gained": flips.gained,
                "p": flips.p_value,
                "questions": [
                    {
                        "task": q.task,
                        "index": q.index,
                        "was": q.first,
                        "is": q.second,
                        "samples": q.samples,
                        "was_passed": q.first_passed,
                        "is_passed": q.second_passed,
                    }
                    for q in flips.questions
                ],
            }
            for other, flips in zip(others, comparison.flips, strict=True)
        ],
    }


def print_comparison(comparison: "Comparison") -> None:
    """Print what differs, the metrics, the scores and the flipped questions."""
    _table("differs", comparison, [(d.key, d.values) for d in comparison.differences], str)
    if not comparison.differences:
        data.print("Settings and data are the same.")
    _table("latest value", comparison, [(m.key, m.newest) for m in comparison.metrics], _number)
    scores = [(s.task, s.values) for s in comparison.scores]
    _table("pass@1", comparison, [*scores, *_average(scores)], _score)
    first, *others = comparison.runs
    for other, flips in zip(others, comparison.flips, strict=True):
        _print_flips(first.id, other.id, flips)


def _average(
    scores: Sequence[tuple[str, Sequence[float | None]]],
) -> list[tuple[str, list[float | None]]]:
    if not scores:
        return []
    columns = zip(*(values for _, values in scores), strict=True)
    found = [[value for value in column if value is not None] for column in columns]
    return [("average", [sum(c) / len(c) if c else None for c in found])]


def _table(title: str, comparison: "Comparison", rows: Sequence[Any], shown: Any) -> None:
    if not rows:
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(title, no_wrap=True)
    for run in comparison.runs:
        table.add_column(f"{run.id} {run.name}", overflow="fold")
    for key, values in rows:
        table.add_row(key, *(shown(value) for value in values))
    print_table(table)
    data.print()


def _plain(value: object) -> object:
    """A value for JSON; what a config does not have becomes null."""
    try:
        jsonlib.dumps(value)
    except TypeError:
        return None
    return value


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}" if math.isfinite(value) else str(value)


def _score(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _print_flips(first: str, second: str, flips: "Flips") -> None:
    if not flips.compared:
        return
    data.print(
        f"{first} to {second}: of {flips.compared} questions {flips.gained} gained, "
        f"{flips.lost} lost; {flips.test} exact p = {flips.p_value:.3g}",
        markup=False,
        soft_wrap=True,
    )
    for question in flips.questions[:_SHOWN_FLIPS]:
        data.print(
            f"  {question.task} {question.index} ({question.task_id}): "
            f"{question.first} became {question.second}",
            markup=False,
            soft_wrap=True,
        )
    if (left := len(flips.questions) - _SHOWN_FLIPS) > 0:
        data.print(f"  and {left} more (--json has them all)")
