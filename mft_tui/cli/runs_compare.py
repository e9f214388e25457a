"""Two or more runs side by side: what differs, what came of it, and whether that is chance."""

import json as jsonlib
import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from rich.table import Table

from mft_tui.cli.output import data
from runners.lifecycle.significance import Flips, flips

if TYPE_CHECKING:
    from db import RunRecord, Store

_SHOWN_FLIPS = 20


def compare_runs(store: "Store", runs: "list[RunRecord]") -> dict[str, Any]:
    """Compare; values stand in the order of ``runs``, None where a run has none.

    ``flips`` compares each run with the one before it, by task: questions that passed in one only,
    and the two-sided exact p of McNemar's paired test.
    """
    configs = [jsonlib.loads(run.config) for run in runs]
    latest = [store.latest_metrics(run.id) for run in runs]
    scores = [{s.task: s.pass_at_1 for s in store.scores(run.id)} for run in runs]
    tasks = _union(scores)
    return {
        "runs": [
            {"id": r.id, "name": r.name, "kind": r.kind, "status": r.status} for r in runs
        ],
        "settings": {
            key: values
            for key in _union(configs)
            if _differ(values := [config.get(key) for config in configs])
        },
        "data": [run.data_fingerprint for run in runs],
        "metrics": {
            key: [m[key].value if key in m else None for m in latest] for key in _union(latest)
        },
        "pass_at_1": {task: [s.get(task) for s in scores] for task in tasks},
        "average": [sum(s.values()) / len(s) if s else None for s in scores],
        "flips": [
            {"from": a.id, "to": b.id, **_flips(store, a.id, b.id, tasks)} for a, b in pairwise(runs)
        ],
    }


def _union(dictionaries: list[Any]) -> list[str]:
    return list(dict.fromkeys(key for d in dictionaries for key in d))


def _differ(values: list[Any]) -> bool:
    return any(value != values[0] for value in values)


def _flips(store: "Store", a: str, b: str, tasks: list[str]) -> dict[str, Any]:
    by_task = {}
    whole = Flips((), (), 1.0, 0)
    for task in tasks:
        before = {v.index: v.passed for v in store.verdicts(a, task)}
        after = {v.index: v.passed for v in store.verdicts(b, task)}
        found = flips(before, after)
        if found.compared:
            by_task[task] = {
                "gained": list(found.gained),
                "lost": list(found.lost),
                "p": found.p_value,
                "compared": found.compared,
            }
            whole = whole.joined(found)
    return {
        "tasks": by_task,
        "gained": len(whole.gained),
        "lost": len(whole.lost),
        "compared": whole.compared,
        "p": whole.p_value,
    }


def print_comparison(comparison: dict[str, Any]) -> None:
    """Print it as tables, a column a run."""
    runs = comparison["runs"]
    _table("setting", runs, comparison["settings"], _plain)
    _table("latest value", runs, comparison["metrics"], _number)
    if comparison["pass_at_1"]:
        rows = {**comparison["pass_at_1"], "average": comparison["average"]}
        _table("pass@1", runs, rows, _score)
    if not comparison["settings"]:
        data.print("The settings are the same.")
    same_data = not _differ(comparison["data"])
    data.print("The data is the same." if same_data else f"The data differs: {comparison['data']}")
    for pair in comparison["flips"]:
        _print_flips(pair)


def _table(title: str, runs: list[dict[str, Any]], rows: dict[str, Any], shown: Any) -> None:
    if not rows:
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(title)
    for run in runs:
        table.add_column(f"{run['id']} {run['name']}", overflow="fold")
    for key, values in rows.items():
        table.add_row(key, *(shown(value) for value in values))
    data.print(table)
    data.print()


def _plain(value: Any) -> str:
    return jsonlib.dumps(value, ensure_ascii=False)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}" if math.isfinite(value) else str(value)


def _score(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _print_flips(pair: dict[str, Any]) -> None:
    if not pair["compared"]:
        return
    data.print(
        f"{pair['from']} to {pair['to']}: of {pair['compared']} questions {pair['gained']} gained, "
        f"{pair['lost']} lost; paired test p = {pair['p']:.3g}",
        markup=False,
    )
    for task, found in pair["tasks"].items():
        for word in ("gained", "lost"):
            if questions := found[word]:
                more = " …" if len(questions) > _SHOWN_FLIPS else ""
                listed = " ".join(map(str, questions[:_SHOWN_FLIPS]))
                data.print(f"  {task} {word}: {listed}{more}", markup=False)
