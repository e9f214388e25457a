"""``mft-tui demo``: the whole way, small.

A tiny model, a data set of three tasks and a benchmark of our own are made on the spot; then the
same runs that the real commands start do the rest. Nothing here is a shortcut: every step prints
the command that does it, and every run is in the tracker afterwards.
"""

import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from mft_tui.cli.output import console, data, print_json
from runners.benchmarks.tasks import TASKS
from runners.config import (
    EvaluateConfig,
    ExportConfig,
    GenerateConfig,
    JobConfig,
    TrainConfig,
)
from runners.errors import JobFailedError, MissingInputError
from runners.lifecycle.folders import StateFolder

MODEL_NAME = "mft-tui-demo"


@dataclass(frozen=True)
class Step:
    """A finished step of the pipeline."""

    kind: str
    run_id: str
    folder: Path
    summary: Mapping[str, Any]


@dataclass(frozen=True)
class Report:
    """What the demo ends with. ``missing`` names languages without a toolchain, and the remedy."""

    steps: tuple[Step, ...]
    missing: Mapping[str, str]
    archive: Path
    loss: tuple[float, float]
    seconds: float

    @property
    def scores(self) -> Mapping[str, Mapping[str, float]]:
        """By task: ``pass@1``, ``passed``, ``total`` and ``seconds``."""
        scores: Mapping[str, Mapping[str, float]] = self._evaluated.summary["tasks"]
        return scores

    @property
    def _evaluated(self) -> Step:
        return next(step for step in self.steps if step.kind == "evaluate")

    @property
    def average(self) -> float:
        """Mean pass@1 over the tasks that could be scored here."""
        return sum(score["pass@1"] for score in self.scores.values()) / len(self.scores)

    def to_json(self) -> dict[str, Any]:
        """The report for programs."""
        return {
            "runs": {step.kind: step.run_id for step in self.steps},
            "loss": {"first": self.loss[0], "last": self.loss[1]},
            "tasks": self.scores,
            "average": self.average,
            "missing": self.missing,
            "zip": str(self.archive),
            "seconds": round(self.seconds, 1),
        }

    def show(self) -> None:
        """The report for people: the table on stdout, the rest beside it."""
        table = Table(box=SIMPLE_HEAD)
        table.add_column("task")
        table.add_column("passed", justify="right")
        table.add_column("pass@1", justify="right")
        for task in TASKS:
            if score := self.scores.get(task):
                passed = f"{score['passed']}/{score['total']}"
                table.add_row(task, passed, f"{score['pass@1']:.3f}")
            else:
                table.add_row(f"[yellow]{task}[/]", "[yellow]no toolchain[/]", "–")
        table.add_section()
        table.add_row("[bold]average[/]", "", f"[bold]{self.average:.3f}[/]")
        console.print()
        data.print(table)
        for language, install in self.missing.items():
            data.print(f"{language} was left out; to install it: {install}", markup=False)
        data.print(f"loss   {self.loss[0]:.3f} → {self.loss[1]:.4f}")
        for step in self.steps:
            data.print(f"{step.kind:<9} run {step.run_id}")
        data.print(f"zip    {self.archive}", markup=False, soft_wrap=True)
        data.print(f"took   {self.seconds:.0f} s")


def demo(
    json_output: Annotated[
        bool, typer.Option("--json", help="Runs, scores and zip as JSON on stdout.")
    ] = False,
) -> None:
    """Train a tiny model on a small data set, score it on 13 small tasks, export the submission.

    Takes about two minutes on two cores and needs no GPU and no download. Tasks whose compiler is
    not on this machine are named with the line that installs it, and left out.

    \b
    Examples:
      mft-tui demo
      mft-tui demo --json > demo.json
    """
    from runners.benchmarks.demo import demo_benchmarks

    began = time.monotonic()
    benchmark = demo_benchmarks()
    folder = StateFolder.default().root / "demo"
    tasks, model = _prepare(folder)

    training = _training(tasks, model)
    config_file = folder / "train.json"
    config_file.write_text(training.model_dump_json(indent=2) + "\n", encoding="utf-8")
    _heading("Train every weight of the tiny model on the three tasks", f"train {config_file}")
    trained = _run(training)

    final = trained.folder / "artifacts" / "final"
    flags = f"--benchmarks {benchmark} --format chatml"
    _heading(
        "Generate answers to the 13 tasks, greedy",
        f"generate --model {final} --model-name {MODEL_NAME} {flags}",
    )
    generated = _run(
        GenerateConfig(
            model=str(final),
            model_name=MODEL_NAME,
            benchmarks=benchmark,
            format="chatml",
            max_length=512,
            use_cpu=True,
        ),
        parent=trained.run_id,
    )

    generations = generated.folder / "artifacts" / f"generations_{MODEL_NAME}"
    _heading(
        "Evaluate the answers in a sandbox", f"evaluate {generations} --benchmarks {benchmark}"
    )
    evaluated = _run(
        EvaluateConfig(generations=generations, benchmarks=benchmark), parent=generated.run_id
    )

    _heading("Export the submission", f"export {generated.run_id}")
    # After the evaluation, so that replaying the last run is replaying all of it.
    exported = _run(ExportConfig(generations=generations), parent=evaluated.run_id)

    report = Report(
        steps=(trained, generated, evaluated, exported),
        missing=_missing_toolchains(),
        archive=Path(str(exported.summary["zip"])),
        loss=_losses(trained.run_id),
        seconds=time.monotonic() - began,
    )
    report.show()
    if json_output:
        print_json(report.to_json())


def _training(tasks: list[Path], model: Path) -> TrainConfig:
    """Full fine-tuning for as long as learning 26 answers by heart takes."""
    return TrainConfig(
        data_paths=tasks,
        data_split="100,0,0",
        pretrained_model_path=str(model),
        peft_type="full",
        seq_length=512,
        per_device_train_batch_size=13,
        num_train_epochs=60,
        learning_rate=3e-3,
        min_lr=3e-4,
        num_warmup_steps=10,
        evaluation_steps=0,
        checkpointing_steps=40,
        log_interval=10,
        use_cpu=True,
    )


def _missing_toolchains() -> dict[str, str]:
    """The languages that cannot be scored here, each with the line that installs it."""
    from runners.evaluate.languages.base import Missing
    from runners.evaluate.toolchains import discover

    return {found.language: found.install for found in discover() if isinstance(found, Missing)}


def _prepare(folder: Path) -> tuple[list[Path], Path]:
    from importlib.util import find_spec

    from runners.benchmarks.demo.records import write_demo_data

    if find_spec("torch") is None:
        raise MissingInputError(
            "the demo trains a model, and torch is not installed",
            fix="pip install 'mft-tui[train]'",
        )
    _heading("Prepare a data set of three tasks and a tiny random Qwen2 model")
    tasks = write_demo_data(folder / "data")
    model = folder / "model"
    made = subprocess.run(
        [sys.executable, "-P", "-m", "runners.models.tiny", str(model), *map(str, tasks)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode != 0:
        raise JobFailedError(f"the tiny model could not be made:\n{made.stderr}", where=str(model))
    console.print(f"data   {folder / 'data'}\nmodel  {model}", markup=False)
    return tasks, model


def _heading(title: str, command: str | None = None) -> None:
    console.print()
    console.rule(f"[bold]{title}", align="left")
    if command:
        console.print(f"mft-tui {command}", style="dim", markup=False, soft_wrap=True)


def _run(config: JobConfig, parent: str | None = None) -> Step:
    """Launch and follow one run. Raises ``typer.Exit`` with its code unless it finishes."""
    from mft_tui.cli.launching import launch_and_follow

    outcome = launch_and_follow(config, name=f"demo {config.kind}", parent=parent)
    if outcome.status != "finished":
        raise typer.Exit(outcome.exit_code)
    folder = StateFolder.default().run(outcome.run_id).path
    return Step(config.kind, outcome.run_id, folder, outcome.summary)


def _losses(run_id: str) -> tuple[float, float]:
    """The first and the last training loss of a run."""
    from mft_tui.cli.store import opened_store

    with opened_store(read_only=True) as store:
        points = store.series(run_id, "loss").points
    return points[0].value, points[-1].value
