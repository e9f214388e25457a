"""The gradient of a step does not depend on how its batch is cut into micro-batches and ranks."""

import importlib.util
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file

from runners.config import TrainConfig

PROGRAM = Path(__file__).with_name("one_step.py")


def load_program() -> ModuleType:
    spec = importlib.util.spec_from_file_location("one_step", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def on_two_ranks(
    config: TrainConfig, model: Path, output: Path, micros: int
) -> dict[str, torch.Tensor]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {
        **os.environ,
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "ACCELERATE_USE_CPU": "true",
        "OMP_NUM_THREADS": "1",
    }
    given = [config.model_dump_json(), str(model), str(output), str(micros)]
    ranks = [
        subprocess.Popen(
            [sys.executable, str(PROGRAM), *given],
            env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(2)
    ]
    assert [rank.wait(240) for rank in ranks] == [0, 0]
    return load_file(output)


@pytest.mark.slow
def test_gradients_are_equal_for_8x1_1x8_and_2_ranks_by_4_in_every_case_packed_and_padded(
    material: "object", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    config = TrainConfig(
        data_paths=material.tasks,  # type: ignore[attr-defined]
        pretrained_model_path=str(material.model),  # type: ignore[attr-defined]
        cache_dir=material.cache,  # type: ignore[attr-defined]
        seq_length=96,
        num_workers=1,
    )
    program, model = load_program(), material.model  # type: ignore[attr-defined]
    whole = program.gradients(config, model, micros=1)
    ways = {
        "1x8 accumulation": program.gradients(config, model, micros=8),
        "2 ranks x 4": on_two_ranks(config, model, tmp_path / "4.safetensors", 1),
        "2 ranks x 2 accumulation": on_two_ranks(config, model, tmp_path / "2.safetensors", 2),
    }
    for way, found in ways.items():
        assert found.keys() == whole.keys()
        for name, gradient in whole.items():
            difference = (found[name] - gradient).norm() / gradient.norm()
            assert difference < 1e-5, (way, name)
    # The comparison means something: the cases differ from each other at micro-batch 1.
    name = next(iter(whole)).split("/", 2)[2]
    for mode in program.MODES:
        cases = [ways["1x8 accumulation"][f"{case}/{mode}/{name}"] for case in program.CASES]
        for i, one in enumerate(cases):
            for other in cases[i + 1 :]:
                assert (one - other).norm() / one.norm() > 1e-2
