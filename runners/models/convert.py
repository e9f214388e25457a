"""Write a first-generation checkpoint in the native transformers format.

``python -m runners.models.convert RUN_FOLDER`` is the job; ``convert_checkpoint`` is what training
calls when it is pointed at such a checkpoint. Weights stream through one shard at a time, so the
memory needed is that of a shard, whatever the model's size.
"""

import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from runners.config import ConvertConfig
from runners.lifecycle.job import Job, run_job
from runners.models.families import (
    detect_family,
    read_model_config,
    require_first_generation,
    weight_files,
)
from runners.models.first_generation import native_config, native_tensors
from runners.models.tokenizer_files import write_native_tokenizer

_SHARD_BYTES = 4 << 30


def convert_checkpoint(
    source: Path,
    target: Path,
    *,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> None:
    """Convert the checkpoint folder ``source`` into ``target``, which appears only when whole.

    ``on_progress(done, total)`` counts weight files. Raises ``UsageError`` when the source is
    native already or of a variant that does not convert.
    """
    config = read_model_config(source)
    family = detect_family(config)
    require_first_generation(family, source)
    files = weight_files(source)
    draft = target.with_name(f".{target.name}.part")
    if draft.exists():
        shutil.rmtree(draft)
    draft.mkdir(parents=True)
    (draft / "config.json").write_text(json.dumps(native_config(config), indent=2) + "\n")
    _write_shards(_native_weights(files, config, on_progress), draft)
    generation = source / "generation_config.json"
    if generation.is_file():
        shutil.copy(generation, draft)
    write_native_tokenizer(source, draft, family)
    if target.exists():
        shutil.rmtree(target)
    draft.rename(target)


def _native_weights(
    files: list[Path], config: Mapping[str, Any], on_progress: Callable[[int, int], None]
) -> Iterator[tuple[str, Tensor]]:
    for done, path in enumerate(files):
        on_progress(done, len(files))
        for name, tensor in _read_weights(path):
            yield from native_tensors(name, tensor, config)
    on_progress(len(files), len(files))


def _read_weights(path: Path) -> Iterator[tuple[str, Tensor]]:
    if path.suffix == ".safetensors":
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - safe_open is no mapping
                yield name, file.get_tensor(name)
    else:
        yield from torch.load(path, map_location="cpu", weights_only=True).items()


def _write_shards(weights: Iterator[tuple[str, Tensor]], folder: Path) -> None:
    placed: dict[str, int] = {}
    shards = size = total = 0
    shard: dict[str, Tensor] = {}

    def flush() -> None:
        nonlocal shards, size
        shards += 1
        save_file(shard, folder / f"shard-{shards}.safetensors", metadata={"format": "pt"})
        shard.clear()
        size = 0

    for name, tensor in weights:
        if shard and size + tensor.nbytes > _SHARD_BYTES:
            flush()
        shard[name] = tensor.contiguous()
        placed[name] = shards + 1
        size += tensor.nbytes
        total += tensor.nbytes
    flush()
    if shards == 1:
        (folder / "shard-1.safetensors").rename(folder / "model.safetensors")
        return
    final = {i: f"model-{i:05d}-of-{shards:05d}.safetensors" for i in range(1, shards + 1)}
    for i, name in final.items():
        (folder / f"shard-{i}.safetensors").rename(folder / name)
    index = {
        "metadata": {"total_size": total},
        "weight_map": {name: final[i] for name, i in placed.items()},
    }
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")


def work(job: Job[ConvertConfig]) -> Mapping[str, object]:
    """The convert job: checkpoint in, native checkpoint out, recorded as an artifact."""
    target = job.output_folder(job.config.output_dir)

    def tell(done: int, total: int) -> None:
        job.events.progress("convert", done, total, "file")

    convert_checkpoint(job.config.model, target, on_progress=tell)
    job.record_artifact("model", target)
    return {"model": str(target)}


if __name__ == "__main__":
    sys.exit(run_job("convert", ConvertConfig, work))
