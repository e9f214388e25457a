"""The engine for completions servers against a real one: ``transformers serve``."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from runners.benchmarks.tasks import TASKS
from tests.runners.generate.conftest import END, START, make_model, make_tokenizer
from tests.runners.generate.test_job import PROJECT, finished, prepared, task_files

pytestmark = pytest.mark.slow

Answers = dict[tuple[str, int], tuple[str, str, int]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that writes what this server can show.

    That is no half characters at the end of a text, and no special tokens but the last.
    """
    folder = tmp_path_factory.mktemp("served")
    tokenizer = make_tokenizer(ascii_only=True)
    model = make_model("qwen2", len(tokenizer))
    with torch.no_grad():
        model.lm_head.weight[tokenizer.convert_tokens_to_ids([START, END])] = 0.0
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=[(), ("--continuous-batching",)], ids=["alone", "batched"])
def url(
    model: Path, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A server of the checkpoint, up to ``/v1``."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start = "from transformers.cli.transformers import main; main()"
    argv = [sys.executable, "-c", start, "serve", str(model), "--host", "127.0.0.1"]
    argv += ["--port", str(port), "--device", "cpu", "--dtype", "float32", *request.param]
    if request.param:
        argv += ["--cb-num-blocks", "48", "--cb-block-size", "64", "--cb-max-batch-tokens", "1024"]
    log = tmp_path_factory.mktemp("log") / "serve.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            argv,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
            cwd=PROJECT,
        )
    try:
        _wait_for(f"http://127.0.0.1:{port}/health", process, log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.kill()
        process.wait()


def _wait_for(health: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(health, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise AssertionError(f"the server did not come up:\n{log.read_text()[-3000:]}")


def answers(run: Path) -> Answers:
    folder = run / "artifacts" / "generations_tiny"
    return {
        (line["task"], line["index"]): (line["completion"], line["finish"], line["tokens"])
        for path in folder.glob("completions_*.jsonl")
        for line in map(json.loads, path.read_text().splitlines())
    }


def test_the_server_gives_the_completions_of_the_transformers_engine(
    url: str, model: Path, tmp_path: Path
) -> None:
    config = {"model": str(model), "max_length": 400}
    own = prepared(tmp_path / "own", **config)
    served = prepared(
        tmp_path / "served",
        **config,
        engine="openai",
        base_url=url,
        served_model=str(model),
        concurrency=4,
    )
    for run in (own, served):
        result = finished(run)
        assert result.returncode == 0, result.stderr
    assert answers(served) == answers(own)
    assert task_files(served) == task_files(own)
    assert len(task_files(own)) == len(TASKS)
    assert {finish for _, finish, _ in answers(own).values()} >= {"eos", "rule"}
