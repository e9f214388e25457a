"""The generation job: plan, engine, ledger, files.

Everything an engine yields is on disk before the next completion is asked for; the files of a
submission are made from what is on disk, whichever process or attempt put it there.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from runners.benchmarks.postprocess import EOS
from runners.benchmarks.tasks import TASKS
from runners.config import GenerateConfig
from runners.errors import JobFailedError, RefusedError
from runners.generate.engine import Engine, Pool
from runners.generate.identity import made_with
from runners.generate.ledger import Ledger
from runners.generate.plan import Plan, make_plan, settle_manifest
from runners.generate.progress import Progress
from runners.generate.ranks import Ranks
from runners.generate.recorded import require_same
from runners.lifecycle.job import Job
from runners.lifecycle.locking import exclusive

_DYING_SECONDS = 5.0


def work(job: Job[GenerateConfig]) -> Mapping[str, object]:
    """Answer what is not answered yet; see the module."""
    config = job.config
    plan = make_plan(config)
    for notice in plan.notices:
        job.events.notice("warning", notice)
    folder = job.output_folder(config.output_dir) / f"generations_{config.model_name}"
    folder.mkdir(exist_ok=True)
    ranks = Ranks.join(use_cpu=config.use_cpu or not _has_gpu(config))
    with _alone(folder, ranks):
        return _answer(job, plan, folder, ranks)


@contextmanager
def _alone(folder: Path, ranks: Ranks) -> Iterator[None]:
    """Keep other generations out of a folder: two would answer every question twice.

    Raises ``RefusedError`` when one is at work there.
    """
    if not ranks.leader:
        yield
        return
    # A job that was killed a moment ago may still be dying.
    deadline = time.monotonic() + _DYING_SECONDS
    with exclusive(folder / ".lock", lambda: time.monotonic() < deadline) as alone:
        if not alone:
            raise RefusedError(
                "another generation is writing to this folder",
                where=str(folder),
                fix="Wait until it has ended, or choose another output folder or model name.",
            )
        yield


def _answer(
    job: Job[GenerateConfig], plan: Plan, folder: Path, ranks: Ranks
) -> Mapping[str, object]:
    config = job.config
    ledger = Ledger(folder, config.model_name, plan.questions)
    if ranks.leader:
        settle_manifest(folder, plan, made_with(config))
        ledger.repair()
    ranks.wait()
    ledger.refresh()
    if config.completions is not None and config.engine == "completions":
        require_same(config.completions, ledger.done, folder)
    ranks.wait()
    requests = [request for request in plan.requests() if request.key not in ledger.done]
    engine = _engine(job, ranks)
    progress = Progress(plan, ledger, job.events, folder, engine.eos)
    try:
        if requests:
            pool = Pool(engine.prepared(requests), ranks.claim(), lambda: job.stopping)
            for completion in engine.complete(pool):
                ledger.append(completion)
                if ranks.leader:
                    progress.tick()
        ranks.finish(progress.tick)
        if not ranks.leader:
            return {}
        progress.tick(now=True)
    finally:
        ledger.close()
    if not job.stopping:
        _expect_all(progress, config)
        job.record_artifact("generations", folder)
    return _summary(plan, ledger, folder)


def _has_gpu(config: GenerateConfig) -> bool:
    if config.engine != "transformers":
        return False
    import torch

    return bool(torch.cuda.is_available())


def _engine(job: Job[GenerateConfig], ranks: Ranks) -> Engine:
    config = job.config
    if config.engine == "transformers":
        from runners.generate.local import LocalEngine

        return LocalEngine(config, ranks, job.events)
    if config.engine == "openai":
        from runners.generate.served import ServedEngine

        return ServedEngine.of(config, job.events)
    from runners.generate.recorded import RecordedEngine

    assert config.completions is not None
    return RecordedEngine(config.completions, config.eos_token or EOS)


def _expect_all(progress: Progress, config: GenerateConfig) -> None:
    if not (missing := progress.missing):
        return
    where = "; ".join(
        f"{task} {', '.join(map(str, lacking[:8]))}{' …' if len(lacking) > 8 else ''}"
        for task, lacking in missing.items()
    )
    raise JobFailedError(
        f"{sum(map(len, missing.values()))} questions have no completion: {where}",
        where=str(config.completions) if config.completions else config.engine,
        fix="Complete the file, or name only the --tasks it answers."
        if config.completions
        else "Run it again: it goes on where it was.",
    )


def _summary(plan: Plan, ledger: Ledger, folder: Path) -> Mapping[str, object]:
    finishes: dict[str, int] = {}
    for completion in ledger.done.values():
        finishes[completion.finish] = finishes.get(completion.finish, 0) + 1
    return {
        "generations": str(folder),
        "questions": sum(map(len, plan.questions.values())),
        "completions": len(ledger.done),
        "tokens": ledger.tokens,
        "finishes": finishes,
        "submission": not plan.manifest.breaks_rules
        and plan.manifest.tasks.keys() == set(TASKS)
        and all(count.asked == count.total for count in plan.manifest.tasks.values()),
    }
