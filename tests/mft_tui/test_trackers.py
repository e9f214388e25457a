"""Runs written through the libraries of other trackers, and read back through them."""

import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import db
from mft_tui.cli.trackers import to_mlflow


@pytest.fixture
def store(mft_home: Path) -> Iterator[db.Store]:
    with db.open_store(mft_home / "mft.db") as opened:
        yield opened


@pytest.fixture
def run(store: db.Store) -> db.RunRecord:
    record = db.RunRecord(
        id="1abc",
        kind="train",
        name="a run",
        status="finished",
        created_at=1000.0,
        started_at=1001.0,
        ended_at=1009.0,
        config='{"learning_rate": 0.001, "data_paths": ["/data/mbpp"]}',
    )
    store.insert_run(record)
    store.tag(record.id, ["best"])
    writer = store.writer(record.id)
    for step in range(1, 6):
        writer.metrics(step, {"loss": 1.0 / step, "loss/mbpp@1": 2.0 / step}, at=1001.0 + step)
    writer.metrics(6, {"loss": math.nan}, at=1008.0)
    writer.score("mbpp", 3, 4, 0.75, at=1009.0)
    writer.commit()
    return store.get_run(record.id)


def test_mlflow_reads_back_what_was_exported(
    store: db.Store, run: db.RunRecord, tmp_path: Path
) -> None:
    mlflow = pytest.importorskip("mlflow", reason="needs mlflow: pip install mlflow")
    to_mlflow(store, run, tmp_path)
    to_mlflow(store, run, tmp_path)
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("train")
    (theirs,) = client.search_runs([experiment.experiment_id])
    assert theirs.info.run_name == "a run"
    assert (theirs.info.status, theirs.info.start_time, theirs.info.end_time) == (
        "FINISHED",
        1_001_000,
        1_009_000,
    )
    assert theirs.data.params["learning_rate"] == "0.001"
    assert (theirs.data.tags["mft_run_id"], theirs.data.tags["best"]) == ("1abc", "true")
    assert theirs.data.metrics["pass_at_1.mbpp"] == 0.75
    history = client.get_metric_history(theirs.info.run_id, "loss")
    assert [(p.step, p.value) for p in history][:5] == [(i, 1.0 / i) for i in range(1, 6)]
    assert math.isnan(history[5].value)
    assert len(client.get_metric_history(theirs.info.run_id, "loss/mbpp_1")) == 5


def test_wandb_keeps_an_offline_run_with_everything_in_it(
    run: db.RunRecord, tmp_path: Path
) -> None:
    pytest.importorskip("wandb", reason="needs wandb: pip install wandb")
    # In a process of its own: wandb writes the last of it when its process ends.
    done = subprocess.run(
        [
            *(sys.executable, "-c", "from mft_tui.cli.main import main; main()"),
            *("runs", "export", run.id, "--as", "wandb", "-o", str(tmp_path / "out")),
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / "out")
    (written,) = (tmp_path / "out").glob("wandb/offline-run-*/run-1abc.wandb")
    content = written.read_bytes()
    for word in (b"a run", b"learning_rate", b"loss/mbpp@1", b"pass@1/mbpp", b"best"):
        assert word in content
