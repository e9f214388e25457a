"""The command line of each job.

Training goes through accelerate's launcher, whose arguments its own room knows; generation does
when it is asked for several ranks; everything else is a plain program.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from runners.config import GenerateConfig, JobConfig, TrainConfig
from runners.errors import UsageError

if TYPE_CHECKING:
    from runners.hardware.probe import Hardware

MODULES = {
    "train": "runners.train",
    "merge": "runners.train.merge",
    "convert": "runners.models.convert",
    "generate": "runners.generate",
    "evaluate": "runners.evaluate",
    "export": "runners.submission",
}


@dataclass(frozen=True)
class JobCommand:
    """A program to run, and what it needs added to its environment."""

    argv: list[str]
    env: dict[str, str] = field(default_factory=dict)


CommandOf = Callable[[JobConfig, Path], JobCommand]
"""Gives the command for a config and its run folder."""


def job_command(config: JobConfig, run_folder: Path) -> JobCommand:
    """The command that runs ``config`` from ``run_folder``. Raises ``UsageError``."""
    if isinstance(config, TrainConfig):
        return _train(config, run_folder)
    if isinstance(config, GenerateConfig) and (ranks := _ranks(config)) > 1:
        return _several_ranks(config, run_folder, ranks)
    if config.kind not in MODULES:
        raise UsageError(f"there is no job for a {config.kind} config", where=config.kind)
    return JobCommand([sys.executable, "-m", MODULES[config.kind], str(run_folder)])


def _hardware() -> "Hardware":
    from runners.hardware.probe import detect

    return detect()


def _train(config: TrainConfig, run_folder: Path) -> JobCommand:
    from runners.config.launch_line import accelerate_argv
    from runners.config.preflight import require_trainable

    hardware = _hardware()
    # Whoever launches, the app and a replay included, hears of a hopeless run before it begins.
    require_trainable(config, hardware)
    argv, env = accelerate_argv(config, run_folder, hardware)
    return JobCommand(list(argv), dict(env))


def _ranks(config: GenerateConfig) -> int:
    if config.engine != "transformers":
        return 1
    if config.num_processes is not None:
        return config.num_processes
    return 1 if config.use_cpu else max(1, len(_hardware().usable))


def _several_ranks(config: GenerateConfig, run_folder: Path, ranks: int) -> JobCommand:
    from runners.config.launch_line import NO_DEFAULTS, launcher_logs

    argv = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(NO_DEFAULTS)]
    argv += ["--num_processes", str(ranks), "--num_machines", "1", "--dynamo_backend", "no"]
    # Port 0: the launcher takes a free one, so that two runs on a machine do not meet.
    argv += ["--mixed_precision", "no", "--main_process_port", "0"]
    # The launcher's own word for CPU starts one process, however many are asked for.
    argv += ["--multi_gpu", *launcher_logs(run_folder), "-m", MODULES["generate"], str(run_folder)]
    on_cpu = config.use_cpu or not _hardware().usable
    return JobCommand(argv, {"ACCELERATE_USE_CPU": "true"} if on_cpu else {})
