"""What moves gradients and weights: plain accelerate, or DeepSpeed ZeRO.

The loop sees one small interface. Losses are sums over the whole step, so gradients must be summed
over ranks; both backends average instead, which is why every loss is multiplied by the number of
ranks. Trained tensors and their moments are read and written by parameter name, whole, whatever the
sharding, so that a checkpoint fits any number of ranks.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from math import isfinite
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from runners.train.inputs import Inputs

MOMENTS = ("exp_avg", "exp_avg_sq")
_FIRST_MICRO_STEP = {1: -1, 2: -1, 3: 0}


class Engine(Protocol):
    """Steps a module with its optimizer over all ranks."""

    rank: int
    ranks: int
    device: torch.device

    @property
    def scaled(self) -> bool:
        """Whether losses are scaled (fp16), so that gradients overflow now and then by design."""

    @property
    def recovers(self) -> bool:
        """Whether it can step again after the error just raised."""

    def forward(self, inputs: Inputs, *, last: bool = True) -> tuple[Tensor, Tensor]:
        """The module's weighted loss and task sums, in the precision asked for.

        ``last`` marks the step's last micro-batch, the one whose backward pass sums over ranks.
        """

    def backward(self, loss: Tensor, *, last: bool) -> None:
        """Add the gradient of ``loss``; ``last`` as in the forward pass."""

    def step(self, rate: float, *, usable: bool) -> float:
        """Update at learning rate ``rate``; return the gradient norm before clipping.

        With ``usable`` false the gradients are thrown away and nothing changes.
        """

    def sum(self, values: Tensor) -> Tensor:
        """Elementwise sum of ``values`` over all ranks, on every rank."""

    def tensors(self) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """Each trained parameter's name, float32 weight and moments, whole, on the CPU.

        All ranks iterate together; the tensors are meant for rank 0.
        """

    def restore(self, tensors: Iterable[tuple[str, dict[str, Tensor]]], updates: int) -> None:
        """Set what ``tensors`` gave, after ``updates`` steps taken. All ranks call it."""

    def extra_state(self) -> dict[str, Any]:
        """What else the optimizer's way depends on, as JSON values.

        ``updates`` counts the steps taken: Adam's bias correction goes by them, not by the steps
        that were passed over. In fp16 also the loss scale.
        """

    def restore_extra(self, state: dict[str, Any]) -> None:
        """Take up ``extra_state``."""


class _Base:
    def __init__(self, accelerator: Accelerator, module: nn.Module, clip: float) -> None:
        self.accelerator = accelerator
        self.rank = accelerator.process_index
        self.ranks = accelerator.num_processes
        self.device = accelerator.device
        self.module = module
        self.clip = clip
        self.scaled = accelerator.mixed_precision == "fp16"
        self.recovers = True

    def sum(self, values: Tensor) -> Tensor:
        if self.ranks == 1:
            return values
        total = values.to(self.device)
        torch.distributed.all_reduce(total)
        return total

    def _named(self) -> Iterator[tuple[str, nn.Parameter]]:
        # Without the prefix of the loss module, these are the names of the language model.
        for name, parameter in self.module.named_parameters():
            if parameter.requires_grad:
                yield name.removeprefix("model."), parameter


class PlainEngine(_Base):
    """One rank, or data parallelism by torch, through accelerate."""

    def __init__(
        self,
        accelerator: Accelerator,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        clip: float,
    ) -> None:
        super().__init__(accelerator, module, clip)
        self.wrapped, self.optimizer = accelerator.prepare(module, optimizer)

    def forward(self, inputs: Inputs, *, last: bool = True) -> tuple[Tensor, Tensor]:
        # Prepared modules run in the precision asked for by themselves. Whether the backward pass
        # will sum over ranks is decided here: they talk once a step, at its last micro-batch.
        with nullcontext() if last else self.accelerator.no_sync(self.wrapped):
            loss, sums = self.wrapped(inputs)
        return loss, sums

    def backward(self, loss: Tensor, *, last: bool) -> None:
        self.accelerator.backward(loss * self.ranks)

    def step(self, rate: float, *, usable: bool) -> float:
        norm = float("nan")
        if usable:
            parameters = [p for _, p in self._named()]
            limit = self.clip if self.clip > 0 else float("inf")
            norm = float(self.accelerator.clip_grad_norm_(parameters, limit))
            # With fp16 the scaler decides, and lowers its scale; without, nobody else would.
            if isfinite(norm) or self.accelerator.scaler is not None:
                _set_rate(self.optimizer.param_groups, rate)
                self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    def tensors(self) -> Iterator[tuple[str, dict[str, Tensor]]]:
        states = self.optimizer.optimizer.state
        for name, parameter in self._named():
            state = states.get(parameter, {})
            found = {"weight": parameter.detach().float().cpu()}
            found |= {key: state[key].float().cpu() for key in MOMENTS if key in state}
            yield name, found

    def restore(self, tensors: Iterable[tuple[str, dict[str, Tensor]]], updates: int) -> None:
        parameters = dict(self._named())
        states = self.optimizer.optimizer.state
        groups = {p: group for group in self.optimizer.param_groups for p in group["params"]}
        for name, saved in tensors:
            parameter = parameters[name]
            parameter.data.copy_(saved["weight"])
            if "exp_avg" in saved:
                states[parameter] = {
                    "step": step_count(updates, groups[parameter], parameter.device),
                    **{key: saved[key].to(parameter) for key in MOMENTS},
                }

    def extra_state(self) -> dict[str, Any]:
        scaler = self.accelerator.scaler
        found: dict[str, Any] = {"updates": _updates(self.optimizer.optimizer.state.values())}
        return found | ({"scaler": scaler.state_dict()} if scaler is not None else {})

    def restore_extra(self, state: dict[str, Any]) -> None:
        if self.accelerator.scaler is not None and "scaler" in state:
            self.accelerator.scaler.load_state_dict(state["scaler"])


class DeepSpeedEngine(_Base):
    """ZeRO 1 to 3 by DeepSpeed, prepared through accelerate."""

    def __init__(
        self,
        accelerator: Accelerator,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        clip: float,
    ) -> None:
        super().__init__(accelerator, module, clip)
        prepared = accelerator.prepare(module, optimizer)
        self.deepspeed = prepared[0]
        self.zero = self.deepspeed.optimizer
        # Off in float32 by default; a step with non-finite gradients must never be taken.
        self.zero.check_grad_overflow = True

    def forward(self, inputs: Inputs, *, last: bool = True) -> tuple[Tensor, Tensor]:
        loss, sums = self.deepspeed(inputs)
        return loss, sums

    def backward(self, loss: Tensor, *, last: bool) -> None:
        # An error in here leaves buckets half filled, which nothing empties.
        self.recovers = False
        self.deepspeed.set_gradient_accumulation_boundary(last)
        self.deepspeed.backward(loss * self.ranks, scale_wrt_gas=False)
        self.recovers = True

    def step(self, rate: float, *, usable: bool) -> float:
        if not usable:
            self._discard()
            return float("nan")
        _set_rate(self.zero.param_groups, rate)
        self.deepspeed.step()
        norm = self.deepspeed.get_global_grad_norm()
        return float("nan") if norm is None else float(norm)

    def _discard(self) -> None:
        """Drop what has been accumulated, as DeepSpeed does itself on an fp16 overflow."""
        zero = self.zero
        zero.zero_grad(set_to_none=True)
        if self.deepspeed.zero_cpu_offload():
            zero.reset_cpu_buffers()
        else:
            zero.averaged_gradients = dict.fromkeys(zero.averaged_gradients)
            if self.deepspeed.zero_optimization_stage() < 3:
                zero.all_grad_tensors = dict.fromkeys(zero.all_grad_tensors)
        zero.micro_step_id = _FIRST_MICRO_STEP[self.deepspeed.zero_optimization_stage()]

    def _partitions(self) -> list[Tensor]:
        """The flat float32 tensors that the inner optimizer steps: this rank's share."""
        zero = self.zero
        if self.deepspeed.zero_optimization_stage() == 3:
            return list(zero.fp32_partitioned_groups_flat)
        return list(zero.single_partition_of_fp32_groups)

    def tensors(self) -> Iterator[tuple[str, dict[str, Tensor]]]:
        from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

        stepped = all(self.zero.optimizer.state.get(flat) for flat in self._partitions())
        for name, parameter in self._named():
            found = {"weight": safe_get_full_fp32_param(parameter).cpu()}
            if stepped:
                for key in MOMENTS:
                    found[key] = safe_get_full_optimizer_state(parameter, key).cpu()
            yield name, found

    def restore(self, tensors: Iterable[tuple[str, dict[str, Tensor]]], updates: int) -> None:
        from deepspeed.utils import safe_set_full_fp32_param, safe_set_full_optimizer_state
        from deepspeed.zero import GatheredParameters

        if updates:
            self._make_optimizer_state(updates)
        parameters = dict(self._named())
        for name, saved in tensors:
            parameter = parameters[name]
            with GatheredParameters([parameter], modifier_rank=0):
                parameter.data.copy_(saved["weight"])
            safe_set_full_fp32_param(parameter, saved["weight"].to(self.device))
            if "exp_avg" in saved:
                for key in MOMENTS:
                    safe_set_full_optimizer_state(parameter, saved[key].to(self.device), key)

    def _make_optimizer_state(self, updates: int) -> None:
        """Give the inner optimizer the empty moments that its first step would have made."""
        from deepspeed.utils import lazy_init_hp_params_optimizer_state

        zero = self.zero
        group = zero.optimizer.param_groups[0]
        for flat in self._partitions():
            zero.optimizer.state[flat] = {
                "step": step_count(updates, group, flat.device),
                **{key: torch.zeros_like(flat) for key in MOMENTS},
            }
        if self.deepspeed.zero_optimization_stage() < 3:
            for group, flat in zip(zero.bit16_groups, self._partitions(), strict=True):
                lazy_init_hp_params_optimizer_state(group, flat, zero.optimizer.state)

    def extra_state(self) -> dict[str, Any]:
        scaler = self.zero.loss_scaler
        keys = ("cur_scale", "cur_iter", "last_overflow_iter", "cur_hysteresis")
        return {
            "updates": _updates(self.zero.optimizer.state.values()),
            "scaler": {key: getattr(scaler, key) for key in keys if hasattr(scaler, key)},
        }

    def restore_extra(self, state: dict[str, Any]) -> None:
        for key, value in state.get("scaler", {}).items():
            setattr(self.zero.loss_scaler, key, value)


def step_count(updates: int, group: Mapping[str, Any], device: torch.device) -> Tensor:
    """Adam's own count of steps as it keeps it: beside the parameter when its kernel is fused."""
    return torch.tensor(float(updates), device=device if group.get("fused") else None)


def _updates(states: Iterable[Mapping[str, Any]]) -> int:
    """Steps taken. The same for all parameters: a step moves all or none."""
    return max((int(state["step"]) for state in states if "step" in state), default=0)


def _set_rate(groups: Iterable[dict[str, Any]], rate: float) -> None:
    for group in groups:
        group["lr"] = rate * group.get("rate_factor", 1.0)
