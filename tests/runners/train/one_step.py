"""Gradients of one optimizer step, however its eight rows are spread; run as a program for 2 ranks.

RANK=0 WORLD_SIZE=2 … python one_step.py CONFIG_JSON MODEL OUTPUT MICROS
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from runners.config import TrainConfig
from runners.data.cache import build_cache
from runners.data.plan import StepPlan, plan_epoch
from runners.models import segments
from runners.train.batching import Batcher
from runners.train.engine import PlainEngine
from runners.train.model import WeightedLoss
from runners.train.setup import make_accelerator

CASES = ("case1", "case2", "case3", "case4")
MODES = ("padding", "pack")
ROWS = 8


def spread_rows(rows: list[torch.Tensor], ranks: int, micros: int) -> StepPlan:
    """Deal the rows out: consecutive ones to a rank, and to a micro-batch of it."""
    size = len(rows) // (ranks * micros)
    return StepPlan(
        tuple(
            tuple(
                tuple(rows[(rank * micros + micro) * size : (rank * micros + micro + 1) * size])
                for micro in range(micros)
            )
            for rank in range(ranks)
        )
    )


def gradients(config: TrainConfig, model: Path, micros: int) -> dict[str, torch.Tensor]:
    """Gradients of every case and mode, summed over ranks: "case/mode/parameter"."""
    accelerator = make_accelerator(config)
    found = {}
    for mode in MODES:
        settings = config.model_copy(update={"padding_mode": mode})
        cache = build_cache(settings, model)
        epoch = plan_epoch(
            cache, torch.arange(len(cache)).numpy(), mode=mode, seq_length=config.seq_length,
            micro_batch=1, accumulation=ROWS, ranks=1, seed=3, epoch=0,
        )  # fmt: skip
        plan = spread_rows(list(epoch[0].all_rows()), accelerator.num_processes, micros)
        for case in CASES:
            base = AutoModelForCausalLM.from_pretrained(model, attn_implementation=segments.NAME)
            module = WeightedLoss(base, len(cache.tasks))
            optimizer = torch.optim.SGD(module.parameters(), lr=0.0)
            engine = PlainEngine(accelerator, module, optimizer, clip=0.0)
            using = settings.model_copy(update={"weighted_loss_mode": case})
            batcher = Batcher(cache, using, pad_id=0, flat=True, device=engine.device)
            weights = batcher.weights(plan, None)
            batches = list(batcher.micro_batches(plan, engine.rank, weights))
            assert len(batches) == micros
            for number, inputs in enumerate(batches, 1):
                loss, _ = engine.forward(inputs, last=number == micros)
                engine.backward(loss, last=number == micros)
                # Ranks talk once a step: until then each has the gradients of its own alone.
                if engine.ranks > 1 and number < micros:
                    first = next(base.parameters()).grad
                    assert first is not None
                    total = first.clone()
                    torch.distributed.all_reduce(total)
                    assert not torch.allclose(total, first * engine.ranks)
            for name, parameter in base.named_parameters():
                assert parameter.grad is not None
                found[f"{case}/{mode}/{name}"] = parameter.grad.clone()
    return found


if __name__ == "__main__":
    given = TrainConfig.model_validate_json(sys.argv[1])
    grads = gradients(given, Path(sys.argv[2]), micros=int(sys.argv[4]))
    if torch.distributed.get_rank() == 0:
        save_file(grads, sys.argv[3])
