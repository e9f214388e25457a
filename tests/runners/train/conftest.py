"""A tiny model and data set for real training runs, and the launcher that starts them."""

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runners.config import TrainConfig
from runners.config.launch_line import accelerate_argv
from runners.lifecycle.events import AnyEvent, Metrics, read_events

NO_GPU = SimpleNamespace(usable=(), bf16=False)
DISTURBED = Path(__file__).with_name("disturbed.py")


@dataclass(frozen=True)
class Material:
    """A tiny checkpoint and three task folders."""

    model: Path
    tasks: list[Path]
    cache: Path


@pytest.fixture(scope="session")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    """Three tasks of different lengths and sizes, and a Qwen2 that has never seen anything."""
    from runners.models.tiny import make_tiny_model

    root = tmp_path_factory.mktemp("material")
    chance = random.Random(7)
    tasks = []
    for name, count, longest in (("length", 24, 60), ("reverse", 36, 25), ("upper", 30, 40)):
        folder = root / "data" / name
        folder.mkdir(parents=True)
        tasks.append(folder)
        with (folder / "train.jsonl").open("w") as file:
            for _ in range(count):
                word = "".join(chance.choices("abcdefgh ", k=chance.randint(3, longest)))
                answer = {"length": str(len(word)), "reverse": word[::-1], "upper": word.upper()}
                rounds = [
                    {"role": "human", "content": f"{name}: {word}", "chat_round_id": 1},
                    {"role": "bot", "content": answer[name], "chat_round_id": 1},
                ]
                file.write(json.dumps({"chat_rounds": rounds}) + "\n")
    model = root / "model"
    texts = (line for folder in tasks for line in (folder / "train.jsonl").open())
    make_tiny_model(model, texts, vocabulary=300, hidden=32, layers=2, context=256)
    return Material(model, tasks, root / "cache")


@dataclass
class Attempt:
    """One start of a run's job."""

    process: "subprocess.Popen[bytes]"
    console: Path

    def wait(self, seconds: float = 240) -> int:
        """Its exit status."""
        return self.process.wait(seconds)

    def ranks(self) -> list[int]:
        """Process ids of the ranks, launcher left out."""
        import psutil

        family = [self.process.pid]
        family += [p.pid for p in psutil.Process(self.process.pid).children(recursive=True)]
        found = []
        for pid in family:
            try:
                words = psutil.Process(pid).cmdline()
            except psutil.NoSuchProcess:
                continue
            if "runners.train" in " ".join(words) and "accelerate.commands.launch" not in words:
                found.append(pid)
        return found


@dataclass
class Run:
    """A run folder and how to start its job."""

    folder: Path
    config: TrainConfig
    attempts: list[Attempt] = field(default_factory=list)

    @property
    def output(self) -> Path:
        """Where results are."""
        return self.folder / "artifacts"

    def start(
        self, environment: dict[str, str] | None = None, *, program: Path | None = None
    ) -> Attempt:
        """Start the job as the launcher would, or ``program`` in its place."""
        argv, added = accelerate_argv(self.config, self.folder, NO_GPU)
        if self.config.num_processes in {None, 1} and self.config.deepspeed != "on":
            # The same job without the launcher around it, which takes seconds to import.
            argv = [argv[0], *argv[argv.index("runners.train") - 1 :]]
        if program is not None:
            argv = [*argv[: argv.index("runners.train") - 1], str(program), argv[-1]]
        console = self.folder / "console.log"
        with console.open("ab") as file:
            process = subprocess.Popen(
                argv,
                env={**os.environ, "OMP_NUM_THREADS": "1", **added, **(environment or {})},
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.attempts.append(Attempt(process, console))
        return self.attempts[-1]

    def finish(self, environment: dict[str, str] | None = None) -> None:
        """Start the job and wait for a good end."""
        code = self.start(environment).wait()
        assert code == 0, self.console()

    def disturbed(self, what: str, **environment: str) -> int:
        """Run the job with ``what`` going wrong, as ``disturbed.py`` says; return its status."""
        return self.start({"DISTURB": what, **environment}, program=DISTURBED).wait()

    def stop_at(self, step: int, signum: signal.Signals = signal.SIGTERM) -> int:
        """Start the job, signal every rank once ``step`` is done, and return its exit status."""
        attempt = self.start()
        deadline = time.monotonic() + 240
        while self.step() < step:
            assert attempt.process.poll() is None, self.console()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        for pid in attempt.ranks():
            os.kill(pid, signum)
        return attempt.wait()

    def console(self) -> str:
        """What the job printed, its noise left out."""
        lines = (self.folder / "console.log").read_text().splitlines()
        return "\n".join(line for line in lines if "torchvision" not in line)[-6000:]

    def events(self) -> list[AnyEvent]:
        """All events so far."""
        path = self.folder / "events.jsonl"
        return [event for event, _ in read_events(path)] if path.exists() else []

    def step(self) -> int:
        """Optimizer steps the last attempt has told of."""
        done = [e.done for e in self.events() if getattr(e, "stage", "") == "train"]
        return done[-1] if done else 0

    def series(self, *keys: str) -> dict[int, dict[str, float]]:
        """The values of ``keys`` at each step; a later attempt's replace an earlier one's."""
        found: dict[int, dict[str, float]] = {}
        for event in self.events():
            if isinstance(event, Metrics):
                values = {k: v for k, v in event.numbers().items() if k.startswith(keys)}
                found.setdefault(event.step, {}).update(values)
        return found


@pytest.fixture
def make_run(material: Material, tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """Make a run of the tiny model; keyword arguments are config keys."""
    runs: list[Run] = []

    def make(name: str = "run", **settings: Any) -> Run:
        folder = tmp_path / name
        folder.mkdir()
        values = {
            "data_paths": material.tasks,
            "pretrained_model_path": str(material.model),
            "cache_dir": material.cache,
            "data_split": "80,20,0",
            "seq_length": 64,
            "lora_rank": 4,
            "log_interval": 1,
            "evaluation_steps": 0,
            "checkpointing_steps": None,
            "learning_rate": 1e-3,
            "num_workers": 1,
        }
        config = TrainConfig(**{**values, **settings})
        (folder / "config.json").write_text(config.model_dump_json())
        runs.append(Run(folder, config))
        return runs[-1]

    yield make
    for run in runs:
        for attempt in run.attempts:
            if attempt.process.poll() is None:
                os.killpg(attempt.process.pid, signal.SIGKILL)
                attempt.process.wait()
