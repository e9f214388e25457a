"""A store as a test fills it, data and a model to train on, and the app with a still clock."""

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from db import RunRecord, VerdictRecord, open_store
from mft_tui import app
from mft_tui.app import MftApp
from mft_tui.widgets.guard import keep_fault
from runners.lifecycle.folders import StateFolder

NOW = 1_790_000_000.0


def run_id(number: int) -> str:
    """Ids as the store makes them: in order."""
    return f"1aaaa{number:05d}"


def add_run(state: StateFolder, number: int, **fields: object) -> RunRecord:
    """A run of long ago with a folder and a console; ``fields`` replace what it has."""
    made = NOW - 86_400 - 60 * (1000 - number)
    folder = state.run(run_id(number)).path
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "console.log").write_text("".join(f"line {n}\n" for n in range(200)))
    given: dict[str, object] = {
        "id": run_id(number),
        "kind": "train",
        "name": f"run {number}",
        "status": "finished",
        "created_at": made,
        "started_at": made,
        "ended_at": made + 600,
        "folder": str(folder),
        "exit_code": 0,
        "config": json.dumps({"learning_rate": 2e-4, "seed": number}),
        **fields,
    }
    record = RunRecord(**given)  # type: ignore[arg-type]
    with open_store(state.database) as store:
        store.insert_run(record)
    return record


def add_losses(state: StateFolder, number: int, points: int = 60) -> None:
    """A falling loss of two tasks, a learning rate and a speed."""
    with open_store(state.database) as store:
        writer = store.writer(run_id(number))
        for step in range(1, points + 1):
            loss = 0.5 + 2 * math.exp(-step / 20)
            values = {
                "loss": loss,
                "loss/python": loss * 0.9,
                "loss/java": loss * 1.1,
                "lr": 2e-4 * (1 - step / (points + 1)),
                "tokens_per_second": 5000.0,
                "mfu": 0.41,
            }
            writer.metrics(step * 10, values, NOW - 86_400 + step)
        writer.notice("info", "validation begins", NOW - 86_000)
        writer.commit(events_offset=1, events_seq=1)


def add_scores(state: StateFolder, number: int, passed: int) -> None:
    """Two tasks with verdicts, ``passed`` of four questions each."""
    with open_store(state.database) as store:
        writer = store.writer(run_id(number))
        for task in ("humanevalsynthesize-python", "mbpp"):
            writer.score(task, passed, 4, passed / 4, NOW - 100)
            writer.verdicts(
                task,
                [
                    VerdictRecord(
                        n,
                        f"t/{n}",
                        n < passed,
                        "passed" if n < passed else "wrong",
                        0.1,
                        "" if n < passed else "AssertionError: 1 != 2",
                    )
                    for n in range(4)
                ],
            )
        writer.commit(events_offset=1, events_seq=1)


@pytest.fixture(autouse=True)
def faults(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Exception]]:
    """What workers raised that is our own fault: nothing, unless a test takes it out."""
    found: list[Exception] = []

    def kept(log: Path, error: Exception) -> str:
        found.append(error)
        return keep_fault(log, error)

    monkeypatch.setattr(app, "keep_fault", kept)
    yield found
    if found:
        raise found[0]


@pytest.fixture
def state(mft_home: Path) -> StateFolder:
    """An empty state folder."""
    mft_home.mkdir()
    return StateFolder(mft_home)


@pytest.fixture
def filled(state: StateFolder) -> StateFolder:
    """Six runs: trained twice, generated, evaluated twice, and one that failed."""
    add_run(state, 1, name="first training")
    add_losses(state, 1)
    add_run(state, 2, name="second training", parent_id=None)
    add_losses(state, 2, points=40)
    add_run(state, 3, kind="generate", name="answers", parent_id=run_id(1), model_name="m")
    add_run(state, 4, kind="evaluate", name="scores", parent_id=run_id(3))
    add_scores(state, 4, 3)
    add_run(state, 5, kind="evaluate", name="scores again", parent_id=run_id(3))
    add_scores(state, 5, 2)
    add_run(
        state,
        6,
        name="out of memory",
        status="failed",
        exit_code=1,
        message="out of memory: 23.1 GiB of 24 GiB used",
    )
    return state


@pytest.fixture
def make_app(state: StateFolder) -> Callable[[], MftApp]:
    """The app on that folder; its clock stands still."""

    def make() -> MftApp:
        return MftApp(state, clock=lambda: NOW, pulse=0.2)

    return make


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two task folders; one of them with a broken line."""
    return write_data(tmp_path / "data")


def write_data(folder: Path) -> Path:
    """The folders "python" and "java"; the second line of java's file is broken."""
    for name in ("python", "java"):
        (folder / name).mkdir(parents=True)
        record = {"chat_rounds": [
            {"role": "human", "content": "add", "chat_round_id": 0},
            {"role": "bot", "content": "def add(a, b): return a + b", "chat_round_id": 1},
        ]}  # fmt: skip
        lines = [json.dumps(record)] * 3
        if name == "java":
            lines[1] = '{"chat_rounds": ['
        (folder / name / "a.jsonl").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A checkpoint folder of a tiny Qwen2 with a tokenizer of its own, and no weights."""
    return write_model(tmp_path / "model")


def write_model(folder: Path) -> Path:
    """What is read of a checkpoint before it is trained: config, tokenizer, names of weights."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["def add(a, b): return a + b"], trainer)
    folder.mkdir(parents=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps({
        "model_type": "qwen2", "hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 400,
        "num_attention_heads": 4, "num_key_value_heads": 4, "intermediate_size": 128,
        "max_position_embeddings": 4096, "tie_word_embeddings": True,
    }))  # fmt: skip
    (folder / "model.safetensors").touch()
    return folder
