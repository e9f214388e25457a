"""Fold an adapter into its base: one plain transformers checkpoint that needs no peft.

``python -m runners.train.merge RUN_FOLDER`` is the job.
"""

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from runners.config import MergeConfig
from runners.errors import MissingInputError, UsageError
from runners.lifecycle.job import Job, run_job
from runners.models.families import read_model_config, weight_files
from runners.models.load import fetch_base
from runners.models.tokenizer_files import copy_tokenizer

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


def merge_adapter(
    adapter: Path, target: Path, *, base: str | None = None, dtype: str = "auto"
) -> Path:
    """Write base plus adapter to ``target``, which appears only when whole; return the base.

    ``base`` overrides the one that the adapter names. An adapter trained on a quantized base is
    merged into the base as it is on disk, unquantized. Raises ``MissingInputError`` without
    adapter or base, ``UsageError`` when they do not belong together.
    """
    named = _named_base(adapter)
    folder = fetch_base(base or named)
    read_model_config(folder)
    weight_files(folder)
    wanted: torch.dtype | str = _DTYPES.get(dtype, "auto")
    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype=wanted)
    try:
        adapted = PeftModel.from_pretrained(model, str(adapter), is_trainable=False)
    except (RuntimeError, ValueError) as error:
        raise UsageError(
            f"the adapter does not fit the base: {str(error).splitlines()[0]}",
            where=str(adapter),
            fix=f"It was trained on {named}; merge it into that one.",
        ) from error
    merged = adapted.merge_and_unload(safe_merge=True)
    merged.config.use_cache = True
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    merged.save_pretrained(str(part))
    copy_tokenizer(folder, part)
    copy_tokenizer(adapter, part)
    if target.exists():
        shutil.rmtree(target)
    part.rename(target)
    return folder


def _named_base(adapter: Path) -> str:
    path = adapter / "adapter_config.json"
    if not path.is_file():
        raise MissingInputError(
            "there is no adapter here (no adapter_config.json)",
            where=str(adapter),
            fix="Name the run, or its folder “final”, or any adapter in peft's format.",
        )
    if not (adapter / "adapter_model.safetensors").is_file():
        raise MissingInputError("the adapter has no adapter_model.safetensors", where=str(adapter))
    return str(json.loads(path.read_bytes())["base_model_name_or_path"])


def work(job: Job[MergeConfig]) -> Mapping[str, object]:
    """The merge job, recorded as an artifact."""
    target = job.output_folder(job.config.output_dir)
    job.events.progress("merge", 0, 1, "model")
    base = merge_adapter(job.config.adapter, target, base=job.config.base, dtype=job.config.dtype)
    job.events.progress("merge", 1, 1, "model")
    job.record_artifact("model", target)
    return {"model": str(target), "base": str(base)}


if __name__ == "__main__":
    sys.exit(run_job("merge", MergeConfig, work))
