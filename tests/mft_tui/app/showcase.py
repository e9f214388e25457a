"""A state folder as a week of work leaves it: what the pictures show.

Every number comes from a generator with a fixed seed, so that a picture is the same each time.
"""

import json
import math
import random
from pathlib import Path

from db import RunRecord, Store, VerdictRecord, open_store
from runners.benchmarks.demo import demo_benchmarks
from runners.benchmarks.tasks import TASKS
from runners.lifecycle.folders import StateFolder
from runners.lifecycle.resumption import resumed_notice
from tests.mft_tui.app.conftest import NOW, run_id, write_data, write_model

HOUR = 3600.0
_LANGUAGES = (
    "c-sharp-to-java",
    "code-completion",
    "code-exercises",
    "text-to-python",
    "unit-tests",
)
_CONFIG = {
    "data_paths": [f"data/{name}" for name in _LANGUAGES],
    "pretrained_model_path": "models/Qwen2.5-Coder-7B",
    "peft_type": "lora", "padding_mode": "pack", "seq_length": 4096, "learning_rate": 2e-4,
    "lora_rank": 64, "early_stopping": True, "early_stopping_stall_num": 5, "seed": 42,
}  # fmt: skip

RESUMED, LORA, COBA, EVALUATED, EVALUATED_COBA, RUNNING, GENERATING, SMALL_EVALUATION = (
    1,
    2,
    5,
    4,
    8,
    11,
    12,
    10,
)
"""Numbers of the runs that pictures are taken of."""


def fill(root: Path) -> StateFolder:
    """Make the state folder, and beside its runs a data set and a model for the wizard."""
    state = StateFolder(root)
    root.mkdir(parents=True, exist_ok=True)
    write_data(root / "data")
    write_model(root / "model")
    with open_store(state.database) as store:
        add = _Adder(state, store)
        add(RESUMED, "train", "coder-1.5b full", 31, hours=1.2, tags=("baseline",), changes=_FULL)
        add(LORA, "train", "coder-7b lora", 27, hours=4.6)
        add(3, "generate", "coder-7b-lora", 22, hours=0.4, parent=LORA)
        add(EVALUATED, "evaluate", "coder-7b-lora", 21, hours=0.1, parent=3)
        add(COBA, "train", "coder-7b coba", 20, hours=5.1, tags=("best",), changes=_COBA)
        add(6, "merge", "coder-7b coba", 15, hours=0.05, parent=COBA)
        add(7, "generate", "coder-7b-coba", 14.8, hours=0.4, parent=6)
        add(EVALUATED_COBA, "evaluate", "coder-7b-coba", 14, hours=0.1, parent=7, tags=("best",))
        add(9, "train", "coder-14b lora", 9, hours=0.02, status="failed", message=_NO_MEMORY)
        add(SMALL_EVALUATION, "evaluate", "demo", 8, hours=0.01, changes=_small(state))
        add(RUNNING, "train", "coder-14b qlora", 2.6, status="running", done=1840, total=4200)
        add(GENERATING, "generate", "coder-7b-coba-2", 0.3, status="running", done=1148, total=2468)
        for number, seed, points, level in (
            (RESUMED, 3, 260, 0.62), (LORA, 5, 420, 0.44), (COBA, 6, 420, 0.41),
            (RUNNING, 7, 184, 0.39),
        ):  # fmt: skip
            _losses(store, number, seed, points, level)
        _resumed(store, RESUMED, 1_500)
        _scores(store, EVALUATED, 11, 0.41)
        _scores(store, EVALUATED_COBA, 11, 0.46)
        _one_failure(state, store)
        store.update_run(run_id(9), note="try qlora, see the next one")
    _completions(state)
    return state


_COBA = {"weighted_loss_mode": "coba", "evaluation_steps": 100, "learning_rate": 1e-4}
_FULL = {"peft_type": "full", "early_stopping": False}
_NO_MEMORY = (
    "out of memory on rank 0: 77.9 of 79.2 GiB in use. "
    "Lower per_device_train_batch_size, or set gradient_checkpointing=full"
)


def _small(state: StateFolder) -> dict[str, object]:
    folder = state.run(run_id(SMALL_EVALUATION)).path / "generations_demo"
    return {"benchmarks": str(demo_benchmarks()), "generations": str(folder)}


class _Adder:
    def __init__(self, state: StateFolder, store: Store) -> None:
        self._state, self._store = state, store

    def __call__(
        self,
        number: int,
        kind: str,
        name: str,
        hours_ago: float,
        *,
        hours: float = 0.0,
        status: str = "finished",
        parent: int | None = None,
        tags: tuple[str, ...] = (),
        changes: dict[str, object] | None = None,
        **fields: object,
    ) -> None:
        folder, made = self._state.run(run_id(number)), NOW - hours_ago * HOUR
        folder.path.mkdir(parents=True)
        folder.console.write_text(_console(number) if kind == "train" else _LOADING)
        running = status == "running"
        given: dict[str, object] = {
            "id": run_id(number), "kind": kind, "name": name, "status": status,
            "model_name": name, "created_at": made, "started_at": made,
            "ended_at": None if running else made + hours * HOUR,
            "heartbeat_at": NOW if running else None, "host": "node-3",
            "folder": str(folder.path), "stage": kind,
            "unit": "step" if kind == "train" else "questions",
            "config": json.dumps({**(_CONFIG if kind == "train" else {}), **(changes or {})}),
            "parent_id": run_id(parent) if parent else None,
            "exit_code": {"finished": 0, "failed": 1}.get(status), **fields,
        }  # fmt: skip
        self._store.insert_run(RunRecord(**given))  # type: ignore[arg-type]
        if tags:
            self._store.tag(run_id(number), tags)


_LOADING = "Loading weights:  12%|█▏        | 40/339\rLoading weights: 100%|██████████| 339/339\n"


def _console(number: int) -> str:
    told = [_LOADING.rstrip("\n")]
    rng = random.Random(number)
    for step in range(10, 1850, 10):
        loss = 0.4 + 1.6 * math.exp(-step / 400) + rng.gauss(0, 0.02)
        told.append(
            f"step {step}/4200  loss {loss:.4f}  tokens_per_second {rng.gauss(31_200, 90):.0f}  "
            f"learning_rate {2e-4 * (1 - step / 4200):.3g}  "
            f"gradient_norm {rng.uniform(0.4, 1.1):.3f}"
        )
        if step % 100 == 0:
            told.append(f"\x1b[33mvalidation at step {step}\x1b[0m  eval_loss {loss + 0.05:.4f}")
    told.append("training:  44%|████▍     | 1840/4200 [2:35:12<3:19:04,  5.06s/step]")
    return "\n".join(told) + "\n"


def _losses(store: Store, number: int, seed: int, points: int, level: float) -> None:
    rng, writer = random.Random(seed), store.writer(run_id(number))
    offsets = {name: rng.uniform(-0.16, 0.3) for name in _LANGUAGES}
    for point in range(1, points + 1):
        step, fallen = point * 10, level + 1.5 * math.exp(-point / 40)
        values = {
            "loss": fallen + rng.gauss(0, 0.025),
            "learning_rate": 2e-4
            * min(1, point / 10)
            * 0.5
            * (1 + math.cos(math.pi * point / 421)),
            "tokens_per_second": rng.gauss(31_200, 300),
            "mfu": rng.gauss(0.462, 0.003),
            "gradient_norm": rng.uniform(0.4, 1.1),
            "seconds_left": (420 - point) * 50.6,
            "peak_memory_bytes": 61.3 * 2**30,
        }
        for name, offset in offsets.items():
            values[f"loss/{name}"] = fallen * (1 + offset) + rng.gauss(0, 0.03)
        if point % 10 == 0:
            values["eval_loss"] = fallen + 0.06 + rng.gauss(0, 0.008)
            for name, offset in offsets.items():
                values[f"eval_loss/{name}"] = values["eval_loss"] * (1 + offset)
        writer.metrics(step, values, NOW - (points - point) * 50)
    writer.notice("info", "cache built: 1,204,331 records, 412 million tokens", NOW - 9000)
    writer.notice("warning", "1,203 records longer than 4,096 tokens were truncated", NOW - 8990)
    writer.notice("info", "checkpoint at step 500", NOW - 6600)
    writer.notice("info", "checkpoint at step 1000, the best so far", NOW - 4100)
    writer.notice("info", "checkpoint at step 1500, the best so far", NOW - 1600)
    writer.commit(events_offset=1, events_seq=1)


def _resumed(store: Store, number: int, step: int) -> None:
    """The machine went down once, and the run went on from its last checkpoint."""
    checkpoint = Path("artifacts", "checkpoints", f"step-{step:08d}")
    words = resumed_notice(checkpoint, step, "exactly where it stopped")
    writer = store.writer(run_id(number))
    writer.notice("info", words, NOW - 900)
    writer.commit(events_offset=2, events_seq=2)
    store.update_run(run_id(number), attempt=2)


_REASONS: tuple[tuple[str, str], ...] = (
    ("wrong", "AssertionError"), ("runtime_error", "IndexError: list index out of range"),
    ("timeout", "10 s of CPU time"), ("compile_error", "error: expected ';' before '}' token"),
)  # fmt: skip


def _verdicts(task: str, rng: random.Random, share: float) -> list[VerdictRecord]:
    rows = []
    for index in range(500 if task == "mbpp" else 164):
        chance = rng.random()
        status, detail = ("passed", "") if chance < share else rng.choice(_REASONS)
        rows.append(VerdictRecord(index, f"{task}/{index}", chance < share, status, 0.2, detail))
    return rows


def _scores(store: Store, number: int, seed: int, share: float) -> None:
    """The same seed with another share flips some questions and leaves the others."""
    writer = store.writer(run_id(number))
    folder = _folder(StateFolder(store.path.parent), number, "metrics_coder")
    for place, task in enumerate(TASKS):
        rng = random.Random(seed + place)
        rows = _verdicts(task, rng, share + 0.04 * math.sin(place))
        passed = sum(row.passed for row in rows)
        writer.score(task, passed, len(rows), passed / len(rows), NOW)
        writer.verdicts(task, rows)
        _write_verdicts(folder / f"verdicts_{task}_coder.jsonl", rows)
    writer.commit(events_offset=1, events_seq=1)


def _folder(state: StateFolder, number: int, name: str) -> Path:
    folder = state.run(run_id(number)).path / "artifacts" / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _write_verdicts(path: Path, rows: list[VerdictRecord]) -> None:
    lines = [
        json.dumps({
            "index": row.index, "task_id": row.task_id, "passed": row.passed,
            "status": row.status, "seconds": row.seconds, "detail": row.detail,
        })
        for row in rows
    ]  # fmt: skip
    path.write_text("\n".join(lines) + "\n")


def _one_failure(state: StateFolder, store: Store) -> None:
    """The demo's first Python question, answered wrongly."""
    folder = state.run(run_id(SMALL_EVALUATION)).path / "generations_demo"
    folder.mkdir()
    wrong = "def add(a: int, b: int) -> int:\n    total = a\n    return total\n"
    task = "humanevalsynthesize-python"
    (folder / f"generations_{task}_demo.json").write_text(json.dumps([[wrong], [wrong]]))
    detail = (
        'Traceback (most recent call last):\n  File "program.py", line 12, in <module>\n'
        '    check(add)\n  File "program.py", line 8, in check\n    assert add(2, 3) == 5\n'
        "AssertionError"
    )
    rows = [
        VerdictRecord(0, "Python/0", False, "wrong", 0.04, detail),
        VerdictRecord(1, "Python/1", False, "wrong", 0.04, "AssertionError"),
    ]
    writer = store.writer(run_id(SMALL_EVALUATION))
    writer.score(task, 0, 2, 0.0, NOW)
    writer.verdicts(task, rows)
    writer.commit(events_offset=1, events_seq=1)


_ANSWER = """\
    kept = []
    for value in values:
        if value not in kept:
            kept.append(value)
    return kept
"""


def _completions(state: StateFolder) -> None:
    """Six tasks are answered, the seventh nearly."""
    folder = _folder(state, GENERATING, "generations_coder-7b-coba-2")
    for place, task in enumerate(TASKS[:7]):
        lines = [
            json.dumps({"task": task, "index": index, "completion": _ANSWER})
            for index in range(164 if place < 6 else 148)
        ]
        (folder / f"completions_{task}_coder.jsonl").write_text("\n".join(lines) + "\n")
