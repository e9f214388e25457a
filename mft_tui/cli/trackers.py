"""Runs written for other trackers, through their own libraries, so that the format is theirs."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from runners.errors import MissingInputError

if TYPE_CHECKING:
    from db import RunRecord, Store

_ALL = 2**31
_FAILED = frozenset({"failed", "crashed"})


def to_mlflow(store: "Store", run: "RunRecord", output: Path) -> None:
    """Write a run into ``mlflow.db`` in the folder ``output``; experiments are named by job.

    A run that is there from an earlier export is replaced. To look at it:
    ``mlflow ui --backend-store-uri sqlite:///OUTPUT/mlflow.db``.
    """
    mlflow = _library("mlflow")
    output = output.absolute()
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{output / 'mlflow.db'}")
    found = client.get_experiment_by_name(run.kind)
    experiment = (
        found.experiment_id
        if found
        else client.create_experiment(run.kind, (output / "artifacts" / run.kind).as_uri())
    )
    for before in client.search_runs([experiment], f"tags.mft_run_id = '{run.id}'"):
        client.delete_run(before.info.run_id)
    theirs = client.create_run(
        experiment,
        start_time=_milliseconds(run.started_at or run.created_at),
        tags={"mft_run_id": run.id, **dict.fromkeys(store.tags(run.id), "true")},
        run_name=run.name,
    ).info.run_id
    for key, value in json.loads(run.config).items():
        client.log_param(theirs, key, str(value)[:6000])
    for key in store.latest_metrics(run.id):
        points = [
            mlflow.entities.Metric(_plain(key), p.value, _milliseconds(p.at), p.step)
            for p in store.series(run.id, key, _ALL).points
        ]
        for start in range(0, len(points), 1000):
            client.log_batch(theirs, metrics=points[start : start + 1000])
    for score in store.scores(run.id):
        client.log_metric(theirs, f"pass_at_1.{_plain(score.task)}", score.pass_at_1)
    status = "FINISHED" if run.status == "finished" else "KILLED"
    status = "FAILED" if run.status in _FAILED else status
    client.set_terminated(theirs, status, _milliseconds(run.ended_at or run.created_at))


def to_wandb(store: "Store", run: "RunRecord", output: Path) -> None:
    """Write a run as a W&B offline run below ``output``; ``wandb sync`` uploads it."""
    wandb = _library("wandb")
    theirs = wandb.init(
        mode="offline",
        dir=str(output),
        id=run.id,
        name=run.name,
        project="mft-tui",
        job_type=run.kind,
        tags=store.tags(run.id),
        config=json.loads(run.config),
        notes=run.note or None,
        settings=wandb.Settings(console="off", disable_git=True, x_disable_stats=True),
    )
    rows: dict[int, dict[str, float]] = {}
    for key in store.latest_metrics(run.id):
        for point in store.series(run.id, key, _ALL).points:
            rows.setdefault(point.step, {})[key] = point.value
    for step in sorted(rows):
        theirs.log({k: v for k, v in rows[step].items() if math.isfinite(v)}, step=step)
    for score in store.scores(run.id):
        theirs.summary[f"pass@1/{score.task}"] = score.pass_at_1
    theirs.finish(exit_code=1 if run.status in _FAILED else 0)


def _library(name: str) -> ModuleType:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingInputError(
            f"the package {name} is not installed", fix=f"pip install {name}"
        ) from error


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def _plain(name: str) -> str:
    """A metric's name in the characters that MLflow takes."""
    return "".join(c if c.isalnum() or c in "_-./ " else "_" for c in name)


EXPORTERS: "dict[str, Callable[[Store, RunRecord, Path], None]]" = {
    "mlflow": to_mlflow,
    "wandb": to_wandb,
}
