"""One run, whole: what ``runs show`` prints, and the JSON other programs read."""

import json as jsonlib
import math
import shlex
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from mft_tui.cli.following import shown_seconds
from mft_tui.cli.output import data
from mft_tui.cli.tables import print_table
from runners.lifecycle.folders import RunFolder
from runners.lifecycle.liveness import shown_status
from runners.lifecycle.processes import Machine
from runners.lifecycle.provenance import Provenance, read_provenance
from runners.lifecycle.status import read_status

if TYPE_CHECKING:
    from db import RunRecord, Series, Store

_BLOCKS = "▁▂▃▄▅▆▇█"
_SPARK_POINTS = 60
_ALL_POINTS = 2**31


def run_to_json(store: "Store", run: "RunRecord") -> dict[str, Any]:
    """Everything about a run. ``series`` is every point of every metric, NaN as null."""
    folder = RunFolder(Path(run.folder))
    provenance = read_provenance(folder.provenance)
    status = read_status(folder.status)
    plain = asdict(run)
    for name in ("config", "command", "summary"):
        plain[name] = jsonlib.loads(plain[name])
    return {
        **plain,
        "shown_status": shown_status(run, Machine.here(), time.time()),
        "tags": store.tags(run.id),
        "children": [child.id for child in store.children(run.id)],
        "launch_line": launch_line(run, folder),
        "origins": _origins(folder),
        "inputs_verified": status.inputs_verified if status else None,
        "changed_inputs": status.changed_inputs if status else [],
        "provenance": provenance,
        "series": {
            key: [
                {"step": p.step, "value": p.value, "at": p.at}
                for p in store.series(run.id, key, _ALL_POINTS).points
            ]
            for key in store.latest_metrics(run.id)
        },
        "scores": [asdict(score) for score in store.scores(run.id)],
        "artifacts": [asdict(artifact) for artifact in store.artifacts(run.id)],
        "notices": [asdict(notice) for notice in store.notices(run.id)],
    }


def print_run(store: "Store", run: "RunRecord") -> None:
    """Print a run for a person."""
    folder = RunFolder(Path(run.folder))
    provenance = read_provenance(folder.provenance)
    _print_facts(_facts(store, run, folder, provenance))
    _print_metrics(store, run)
    _print_scores(store, run)
    _print_artifacts(store, run)
    for notice in store.notices(run.id)[-10:]:
        data.print(f"{notice.level}: {notice.text}", markup=False, soft_wrap=True)
    _print_config(run, folder)


def launch_line(run: "RunRecord", folder: RunFolder) -> str:
    """The command as one would type it: what was added to the environment, then the program."""
    environment: dict[str, str] = {}
    if folder.launch.exists():
        environment = jsonlib.loads(folder.launch.read_bytes()).get("env", {})
    added = [f"{name}={shlex.quote(value)}" for name, value in environment.items()]
    return " ".join([*added, shlex.join(jsonlib.loads(run.command))])


def _facts(
    store: "Store", run: "RunRecord", folder: RunFolder, provenance: Provenance | None
) -> list[tuple[str, str]]:
    status = read_status(folder.status)
    facts = [
        ("run", f"{run.id}  {run.name}"),
        ("status", _status(run)),
        ("times", _times(run)),
        ("progress", _progress(run)),
        ("memory", _memory(run)),
        ("lineage", _lineage(store, run)),
        ("tags", " ".join(store.tags(run.id))),
        ("note", run.note),
        ("folder", run.folder),
        ("launched", launch_line(run, folder)),
        ("data", run.data_fingerprint),
    ]
    if provenance:
        for record in provenance.inputs:
            digest = record.sha256[:16] if record.sha256 else record.revision or "not hashed"
            facts.append((record.role, f"{record.path or record.hub}  {digest}"))
        facts.append(("code", _code(provenance)))
    if status and status.inputs_verified is not None:
        verified = "unchanged after the run"
        facts.append(("inputs", verified if status.inputs_verified else "CHANGED during the run"))
    return [(name, value) for name, value in facts if value]


def _memory(run: "RunRecord") -> str:
    """What a rank of a training run held at its peak, beside what it was expected to hold."""
    summary = jsonlib.loads(run.summary)
    peak, expected = (summary.get(f"{k}_memory_bytes") for k in ("peak", "estimated"))
    if peak is None:
        return ""
    told = f"{peak / 2**30:.2f} GiB at the peak of rank 0"
    return f"{told}, {expected / 2**30:.2f} GiB estimated" if expected else told


def _status(run: "RunRecord") -> str:
    shown = shown_status(run, Machine.here(), time.time())
    parts = [shown]
    if run.exit_code not in {None, 0}:
        parts.append(f"(exit {run.exit_code})")
    if run.attempt > 1:
        parts.append(f"attempt {run.attempt}")
    if run.message:
        parts.append(f"– {run.message}")
    return " ".join(parts)


def _times(run: "RunRecord") -> str:
    def moment(at: float | None) -> str:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at)) if at else "–"

    text = f"{moment(run.started_at or run.created_at)} to {moment(run.ended_at)}"
    if run.started_at and run.ended_at:
        text += f" ({shown_seconds(run.ended_at - run.started_at)})"
    return f"{text} on {run.host}"


def _progress(run: "RunRecord") -> str:
    if run.done is None:
        return ""
    of = f"/{run.total:,}" if run.total is not None else ""
    return f"{run.stage} {run.done:,}{of} {run.unit}"


def _lineage(store: "Store", run: "RunRecord") -> str:
    parts = []
    if run.parent_id:
        parts.append(f"from {run.parent_id}")
    if run.replay_of:
        parts.append(f"replay of {run.replay_of}")
    children = [f"{child.id} ({child.kind})" for child in store.children(run.id)]
    if children:
        parts.append(f"continued by {', '.join(children)}")
    return "; ".join(parts)


def _code(provenance: Provenance) -> str:
    git = provenance.git
    if git is None or git.commit is None:
        return f"sources {provenance.code.get('sources_sha256', '')[:16]}"
    dirty = ", with uncommitted changes" if git.dirty else ""
    return f"{git.root} at {git.commit[:12]} ({git.branch}){dirty}"


def _print_facts(facts: list[tuple[str, str]]) -> None:
    width = max(len(name) for name, _ in facts)
    for name, value in facts:
        data.print(f"{name:<{width}}  {value}", markup=False, soft_wrap=True)


def _print_metrics(store: "Store", run: "RunRecord") -> None:
    latest = store.latest_metrics(run.id)
    if not latest:
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("metric", "first", "last", "least", "step", "over the run"):
        table.add_column(column, no_wrap=True)
    for key in sorted(latest, key=lambda name: ("loss" not in name, name)):
        series = store.series(run.id, key, 400)
        values = [p.value for p in series.points]
        finite = [value for value in values if math.isfinite(value)]
        least = f"{min(finite):.6g}" if finite else ""
        table.add_row(
            key,
            f"{values[0]:.6g}",
            f"{latest[key].value:.6g}",
            least,
            str(latest[key].step),
            sparkline(series),
        )
    data.print()
    print_table(table)


def sparkline(series: "Series", width: int = _SPARK_POINTS) -> str:
    """The series in one line of at most ``width`` characters; "!" where it is not finite."""
    points = series.points
    if len(points) > width:
        points = tuple(points[i * len(points) // width] for i in range(width))
    finite = [p.value for p in points if math.isfinite(p.value)]
    if not finite:
        return "!" * len(points)
    low, high = min(finite), max(finite)
    scale = (len(_BLOCKS) - 1) / (high - low) if high > low else 0.0
    return "".join(
        _BLOCKS[round((p.value - low) * scale)] if math.isfinite(p.value) else "!" for p in points
    )


def _print_scores(store: "Store", run: "RunRecord") -> None:
    scores = store.scores(run.id)
    if not scores:
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("task", "passed", "pass@1"):
        table.add_column(column)
    for score in scores:
        table.add_row(score.task, f"{score.passed}/{score.total}", f"{score.pass_at_1:.4f}")
    average = sum(score.pass_at_1 for score in scores) / len(scores)
    table.add_row(f"average of {len(scores)}", "", f"{average:.4f}")
    data.print()
    print_table(table)


def _print_artifacts(store: "Store", run: "RunRecord") -> None:
    artifacts = store.artifacts(run.id)
    if artifacts:
        data.print()
    for artifact in artifacts:
        data.print(
            f"{artifact.kind:<14} {artifact.path}  {artifact.size:,} bytes  {artifact.sha256[:16]}",
            markup=False,
            soft_wrap=True,
        )


def _origins(folder: RunFolder) -> dict[str, str]:
    if not folder.launch.exists():
        return {}
    origins: dict[str, str] = jsonlib.loads(folder.launch.read_bytes()).get("origins", {})
    return origins


def _print_config(run: "RunRecord", folder: RunFolder) -> None:
    origins = _origins(folder)
    data.print()
    for key, value in jsonlib.loads(run.config).items():
        origin = origins.get(key, "")
        if origin == "default":
            continue
        shown = jsonlib.dumps(value, ensure_ascii=False)
        told = f"  ({origin})" if origin else ""
        data.print(f"{key} = {shown}{told}", markup=False, soft_wrap=True)
    if "default" in origins.values():
        left_out = sum(origin == "default" for origin in origins.values())
        data.print(f"and {left_out} settings at their defaults (config.json has them all)")
