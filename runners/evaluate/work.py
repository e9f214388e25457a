"""The evaluation job: a folder of generations in, verdicts and metrics out.

Verdicts are appended as they come, so a run that was stopped or killed goes on where it was. A
task whose toolchain is missing is skipped and named; the others are scored.
"""

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from runners.benchmarks.rows import resolve_benchmarks
from runners.benchmarks.tasks import TASKS
from runners.config.evaluate import EvaluateConfig
from runners.errors import JobFailedError, MissingInputError
from runners.evaluate.ceiling import ceiling, official
from runners.evaluate.imagetools import discover_in_image
from runners.evaluate.items import Item, TaskItems, load_items, model_name, tasks_present
from runners.evaluate.judge import Judge
from runners.evaluate.languages import get_language
from runners.evaluate.languages.base import Bench, Judgement, Toolchain
from runners.evaluate.pool import Judged, judge_all, units, worker_count
from runners.evaluate.sandbox.base import MIB, Limits, Sandbox, SandboxError
from runners.evaluate.sandbox.cgroup import sweep_left_behind
from runners.evaluate.sandbox.choose import make_sandbox
from runners.evaluate.sandbox.docker import build_line
from runners.evaluate.sandbox.halt import Halt, Halted
from runners.evaluate.scores import score, write_metrics
from runners.evaluate.toolcache import prepared
from runners.evaluate.toolchains import discover
from runners.evaluate.verdicts import Verdict, VerdictFile, read_verdicts, rewrite_verdicts
from runners.lifecycle.job import Job

_PROGRESS_SECONDS = 0.5
_LOOK_SECONDS = 0.2


@dataclass
class _Tally:
    """One task on its way: its verdict file and what is known so far."""

    task: TaskItems
    file: VerdictFile
    verdicts: dict[tuple[int, int], Verdict]
    seconds: float
    ceiling: float | None
    faults: int = 0
    """Generations that the sandbox could not judge."""

    @property
    def name(self) -> str:
        return self.task.task.name

    @property
    def complete(self) -> bool:
        """Every generation has a verdict; asked after each one, so it must cost nothing."""
        return len(self.verdicts) == len(self.task.items)

    @property
    def scored(self) -> bool:
        """Complete, and every verdict is about the program."""
        return self.complete and not self.faults

    def left(self) -> tuple[Item, ...]:
        return tuple(item for item in self.task.items if item.key not in self.verdicts)

    def ordered(self) -> list[Verdict]:
        return [self.verdicts[item.key] for item in self.task.items]

    def counts(self) -> list[tuple[int, int]]:
        """(samples, passed) of each question."""
        samples: Counter[int] = Counter()
        passed: Counter[int] = Counter()
        for verdict in self.verdicts.values():
            samples[verdict.index] += 1
            passed[verdict.index] += verdict.passed
        return [(samples[index], passed[index]) for index in sorted(samples)]


def evaluate(job: Job[EvaluateConfig]) -> Mapping[str, object]:
    """Judge everything the config names; return ``evaluate --json``'s object."""
    config, begin = job.config, time.monotonic()
    model = model_name(config.generations)
    benchmarks = resolve_benchmarks(config.benchmarks)
    tasks = [
        load_items(config.generations, name, benchmarks)
        for name in tasks_present(config.generations, config.tasks)
    ]
    _check_samples(config, tasks)
    folder = job.output_folder(config.output_dir) / f"metrics_{model}"
    folder.mkdir(exist_ok=True)
    sweep_left_behind()
    with _halting(job) as halt:
        try:
            tallies = _score(job, tasks, folder, benchmarks, halt)
        except Halted:
            # Before the first program was run; only a job that is stopping throws the switch.
            tallies = []
    if faulty := {tally.name: tally.faults for tally in tallies if tally.complete and tally.faults}:
        told = ", ".join(f"{count} of {name}" for name, count in faulty.items())
        raise JobFailedError(
            f"the sandbox failed, and generations could not be judged: {told}",
            where=str(folder),
            fix="Run mft-tui doctor; then resume the run: every other verdict is kept.",
        )
    return _summary(model, tallies, time.monotonic() - begin)


@contextlib.contextmanager
def _halting(job: Job[EvaluateConfig]) -> Iterator[Halt]:
    """A switch that is thrown as soon as somebody asks the job to stop, whatever it is doing."""
    halt, over = Halt(), threading.Event()

    def watch() -> None:
        while not over.wait(_LOOK_SECONDS):
            if job.stopping:
                halt.set()
                return

    watcher = threading.Thread(target=watch, name="halting")
    watcher.start()
    try:
        yield halt
    finally:
        over.set()
        watcher.join()
        halt.close()


def _score(
    job: Job[EvaluateConfig],
    tasks: list[TaskItems],
    folder: Path,
    benchmarks: Path,
    halt: Halt,
) -> list[_Tally]:
    """Judge the tasks whose languages are there."""
    config = job.config
    model = model_name(config.generations)
    new_sandbox = make_sandbox(config, halt)
    toolchains = _toolchains(job, tasks, new_sandbox)
    parts = _parts(job, tasks, new_sandbox(), toolchains, halt)
    tasks = [task for task in tasks if task.task.language in parts]
    tallies = [_open(folder, task, benchmarks, model, resumed=job.attempt > 1) for task in tasks]

    def new_judge() -> Judge:
        return Judge(
            new_sandbox(),
            toolchains,
            parts,
            _limits(config),
            fast=config.way == "fast",
            strict=config.strict,
        )

    try:
        _judge(job, tallies, new_judge, halt, toolchains)
    finally:
        for tally in tallies:
            tally.file.close()
    return tallies


def _check_samples(config: EvaluateConfig, tasks: list[TaskItems]) -> None:
    fewest = min(
        min(Counter(item.question.index for item in task.items).values()) for task in tasks
    )
    if too_large := [k for k in config.pass_k if k > fewest]:
        raise JobFailedError(
            f"pass@{too_large[0]} needs {too_large[0]} samples a question; there are {fewest}",
            where="pass_k",
            fix="Ask for a smaller k, or generate more samples.",
        )


def _limits(config: EvaluateConfig) -> Limits:
    return Limits(
        cpu_seconds=1.0,
        wall_seconds=1.0,
        memory_bytes=config.memory_mb * MIB,
        processes=config.processes,
    )


def _toolchains(
    job: Job[EvaluateConfig], tasks: list[TaskItems], new_sandbox: Callable[[], Sandbox]
) -> dict[str, Toolchain]:
    found: dict[str, Toolchain] = {}
    languages = dict.fromkeys(task.task.language for task in tasks)
    if job.config.sandbox == "docker":
        image = job.config.docker_image
        tools = discover_in_image(new_sandbox(), languages, build_line(image))
    else:
        tools = discover(languages)
    for tool in tools:
        if isinstance(tool, Toolchain):
            found[tool.language] = tool
        else:
            job.events.notice(
                "warning",
                f"{_names(tasks, tool.language)} skipped: {tool.what}. "
                f"Install it with: {tool.install}",
            )
    if not found:
        raise MissingInputError(
            "none of the tasks can be scored, because no toolchain is there",
            fix="Run mft-tui doctor: it names the lines that install them.",
        )
    return found


def _parts(
    job: Job[EvaluateConfig],
    tasks: list[TaskItems],
    sandbox: Sandbox,
    toolchains: dict[str, Toolchain],
    halt: Halt,
) -> dict[str, Path]:
    """The prepared folder of each language; without one, its tasks are skipped and named."""
    parts: dict[str, Path] = {}
    failed: list[SandboxError] = []
    try:
        for name, toolchain in toolchains.items():
            bench = Bench(sandbox, toolchain, _limits(job.config), Path())
            try:
                parts[name] = prepared(get_language(name), bench, halt)
            except SandboxError as error:
                failed.append(error)
                skipped = _names(tasks, name)
                job.events.notice("warning", f"{skipped} skipped: {error.what}. {error.fix or ''}")
    finally:
        sandbox.close()
    if failed and not parts:
        raise failed[0]
    return parts


def _names(tasks: list[TaskItems], language: str) -> str:
    return ", ".join(task.task.name for task in tasks if task.task.language == language)


def _open(folder: Path, task: TaskItems, benchmarks: Path, model: str, *, resumed: bool) -> _Tally:
    name = task.task.name
    path = folder / f"verdicts_{name}_{model}.jsonl"
    kept: dict[tuple[int, int], Verdict] = {}
    if resumed:
        digests = {item.key: item.digest for item in task.items}
        for verdict in read_verdicts(path):
            key = (verdict.index, verdict.sample)
            if digests.get(key) == verdict.generation and verdict.status != "sandbox_error":
                kept[key] = verdict
    else:
        path.unlink(missing_ok=True)
    seconds = sum(verdict.seconds for verdict in kept.values())
    most = None
    if official(benchmarks, name):
        most = ceiling(name, (item.question.index for item in task.items))
    return _Tally(task, VerdictFile(path), kept, seconds, most)


def _judge(
    job: Job[EvaluateConfig],
    tallies: list[_Tally],
    new_judge: Callable[[], Judge],
    halt: Halt,
    toolchains: dict[str, Toolchain],
) -> None:
    by_name = {tally.name: tally for tally in tallies}
    total = sum(len(tally.task.items) for tally in tallies)
    done = sum(len(tally.verdicts) for tally in tallies)
    for tally in tallies:
        if tally.complete:
            _finish(job, tally, toolchains)
    workers = worker_count(job.config.jobs)
    left = [TaskItems(tally.task.task, tally.left()) for tally in tallies if not tally.complete]
    fast = job.config.way == "fast"
    batches = {name: get_language(name).batch if fast else 1 for name in toolchains}
    told = 0.0
    for judged in judge_all(
        units(left, batches, workers),
        new_judge,
        workers=workers,
        halt=halt,
        stopping=lambda: job.stopping,
    ):
        tally = by_name[judged.task.task.name]
        _record(tally, judged)
        done += 1
        if tally.complete:
            _finish(job, tally, toolchains)
        if time.monotonic() - told >= _PROGRESS_SECONDS or done == total:
            told = time.monotonic()
            job.events.progress("evaluate", done, total, "generations")


def _record(tally: _Tally, judged: Judged) -> None:
    item, judgement = judged.item, judged.judgement
    verdict = _verdict(item, judgement)
    tally.file.append(verdict)
    tally.verdicts[item.key] = verdict
    tally.seconds += judgement.seconds
    tally.faults += judgement.status == "sandbox_error"


def _verdict(item: Item, judgement: Judgement) -> Verdict:
    return Verdict(
        index=item.question.index,
        task_id=item.question.task_id,
        passed=judgement.passed,
        status=judgement.status,
        seconds=round(judgement.seconds, 3),
        detail=judgement.detail,
        memory=judgement.memory,
        sample=item.sample,
        generation=item.digest,
    )


def _finish(job: Job[EvaluateConfig], tally: _Tally, toolchains: dict[str, Toolchain]) -> None:
    """Write a task's metrics and verdicts in order, and tell its score.

    A fault of the sandbox is no failure of a program: a task with one has no score.
    """
    config = job.config
    verdicts = tally.ordered()
    rewrite_verdicts(tally.file.path, verdicts)
    if tally.faults:
        fault = next(verdict for verdict in verdicts if verdict.status == "sandbox_error")
        job.events.notice(
            "error",
            f"{tally.name} is not scored: the sandbox failed {tally.faults} times ({fault.detail})",
        )
        return
    scores = [score(tally.counts(), k) for k in sorted({1, *config.pass_k})]
    path = tally.file.path
    metrics = path.with_name(path.name.replace("verdicts_", "metrics_", 1)).with_suffix(".json")
    write_metrics(
        metrics,
        tally.name,
        scores,
        {
            "model": model_name(config.generations),
            "tasks": tally.name,
            "questions": len(tally.counts()),
            "generations": len(verdicts),
            "passed": sum(verdict.passed for verdict in verdicts),
            "statuses": dict(sorted(Counter(verdict.status for verdict in verdicts).items())),
            "confidence_95": {f"pass@{s.k}": [s.low, s.high] for s in scores},
            "ceiling": tally.ceiling,
            "toolchain": toolchains[tally.task.task.language].version,
            "sandbox": config.sandbox,
            "way": config.way,
            "strict": config.strict,
            "memory_mb": config.memory_mb,
        },
    )
    passed = sum(verdict.passed for verdict in verdicts)
    job.events.score(tally.name, passed, len(verdicts), scores[0].value)
    job.record_artifact("metrics", metrics)
    job.record_artifact("verdicts", path)


def _summary(model: str, tallies: list[_Tally], seconds: float) -> dict[str, object]:
    tasks: dict[str, dict[str, object]] = {}
    values = []
    for tally in tallies:
        if not tally.scored:
            continue
        counts = tally.counts()
        first = score(counts, 1)
        values.append(first.value)
        tasks[tally.name] = {
            "pass@1": first.value,
            "confidence_95": [first.low, first.high],
            "ceiling": tally.ceiling,
            "passed": sum(passed for _, passed in counts),
            "total": sum(samples for samples, _ in counts),
            "seconds": round(tally.seconds, 3),
        }
    complete = set(tasks) == set(TASKS)
    average = sum(values) / len(TASKS) if complete else None
    return {
        "model_name": model,
        "tasks": tasks,
        "average": average,
        "seconds": round(seconds, 3),
    }
