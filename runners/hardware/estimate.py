"""Will this run fit, what would make it fit, and how long will it take.

Brings shape, recipe, memory and speed together; the screens, `mft-tui estimate` and the training
job's out-of-memory message all call ``estimate``.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from runners.config import TrainConfig
from runners.hardware.changes import Change, single_changes
from runners.hardware.host import HostMemory
from runners.hardware.memory import GIB, RankMemory, rank_memory
from runners.hardware.probe import Hardware
from runners.hardware.recipe import Recipe, make_recipe
from runners.hardware.shape import ModelShape, read_shape
from runners.hardware.speed import DataCounts, Speed, plan_speed

Verdict = Literal["fits", "tight", "does not fit", "unknown"]

TIGHT = 0.9
"""Above this share of the memory an estimate that is a tenth off no longer fits."""


@dataclass(frozen=True)
class Suggestion:
    """A change of the config that would make the run fit: ``keys`` to set, what it costs."""

    keys: dict[str, object]
    text: str
    cost: str
    bytes_per_rank: int
    verdict: Verdict


@dataclass(frozen=True)
class Estimate:
    """The answer for one config on one machine. Bytes are of one rank.

    ``capacity`` is what a rank may use: the smallest usable GPU, or its share of the main memory on
    a CPU; None when it is not known. ``suggestions`` are single changes that fit, cheapest first;
    ``together`` is a short list of changes that fit when none alone does; ``notices`` tells what
    the verdict does not know, such as memory that somebody else holds now.
    """

    verdict: Verdict
    reason: str
    rank: RankMemory
    capacity: int | None
    host_capacity: int
    shape: ModelShape
    recipe: Recipe
    speed: Speed
    suggestions: tuple[Suggestion, ...] = ()
    together: tuple[Suggestion, ...] = ()
    notices: tuple[str, ...] = ()

    @property
    def bytes_per_rank(self) -> int:
        """The peak of one rank, overhead included."""
        return self.rank.parts.total

    def to_json(self) -> dict[str, Any]:
        """Plain data for ``--json``."""
        parts = asdict(self.rank.parts)
        return {
            "verdict": self.verdict,
            "reason": self.reason,
            "bytes_per_rank": self.bytes_per_rank,
            "tensor_bytes_per_rank": self.rank.parts.tensors,
            "capacity": self.capacity,
            "parts": parts,
            "peak_at": self.rank.moment,
            "host_bytes": self.rank.host,
            "host_capacity": self.host_capacity,
            "parameters": self.shape.parameters,
            "trainable_parameters": self.rank.trainable,
            "family": self.shape.family,
            "ranks": self.recipe.ranks,
            "zero_stage": self.recipe.zero_stage,
            "device": self.recipe.device,
            "speed": asdict(self.speed),
            "suggestions": [asdict(suggestion) for suggestion in self.suggestions],
            "together": [asdict(suggestion) for suggestion in self.together],
            "notices": list(self.notices),
        }


def estimate(
    config: TrainConfig,
    model_config: Mapping[str, Any],
    hardware: Hardware,
    data: DataCounts | None = None,
) -> Estimate:
    """Estimate a training run from its config and the model's ``config.json``; loads no weights.

    Raises ``UsageError`` for a model we do not know or an adapter that lands on nothing.
    """
    shape = read_shape(model_config)
    first = _judge(config, shape, hardware, data)
    if first.verdict in {"fits", "unknown"}:
        return first
    tried = [_try(change, shape, hardware, data) for change in single_changes(config, first.recipe)]
    fitting = tuple(answer for answer in tried if answer.verdict == "fits")
    fitting += tuple(answer for answer in tried if answer.verdict == "tight")
    if first.verdict == "tight":
        return replace(first, suggestions=tuple(s for s in fitting if s.verdict == "fits"))
    together = () if fitting else _combine(config, shape, hardware, data)
    return replace(first, suggestions=fitting, together=together)


def _judge(
    config: TrainConfig, shape: ModelShape, hardware: Hardware, data: DataCounts | None
) -> Estimate:
    known = {} if data is None else {"trained_share": data.trained_share, "segment": data.mean}
    recipe = make_recipe(config, shape, hardware, **known)
    rank = rank_memory(shape, recipe)
    capacity = rank_capacity(recipe, hardware)
    verdict, reason = _verdict(rank, capacity, hardware.memory)
    return Estimate(
        verdict=verdict,
        reason=reason,
        rank=rank,
        capacity=capacity,
        host_capacity=hardware.memory.usable,
        shape=shape,
        recipe=recipe,
        speed=plan_speed(config, shape, recipe, hardware, data),
        notices=_notices(rank, recipe, shape, hardware),
    )


def _notices(
    rank: RankMemory, recipe: Recipe, shape: ModelShape, hardware: Hardware
) -> tuple[str, ...]:
    found = []
    need = rank.parts.total
    for device in hardware.usable if recipe.device == "cuda" else ():
        size = device.memory
        if size is not None and size.free < need <= size.total:
            found.append(
                f"GPU {device.gpu_index} has only {gib(size.free)} free now: something else holds "
                f"{gib(size.used)}."
            )
    if recipe.device == "cuda" and recipe.ranks_here > len(hardware.usable):
        found.append(
            f"{recipe.ranks_here} ranks were asked for, and there are {len(hardware.usable)} GPUs."
        )
    if shape.longest is not None and recipe.length > shape.longest:
        found.append(
            f"Rows of {recipe.length} tokens are longer than the {shape.longest} positions that "
            "the model was made for."
        )
    return tuple(found)


def rank_capacity(recipe: Recipe, hardware: Hardware) -> int | None:
    """Bytes that one rank may use on this machine."""
    if recipe.device == "cuda":
        return hardware.gpu_memory
    return hardware.memory.usable // recipe.ranks_here


def _verdict(rank: RankMemory, capacity: int | None, memory: HostMemory) -> tuple[Verdict, str]:
    need = rank.parts.total
    if rank.host > memory.usable:
        return "does not fit", (
            f"offloading puts {gib(rank.host)} into main memory, which has {gib(memory.usable)}"
        )
    if capacity is None:
        return "unknown", f"a rank needs {gib(need)}; how much memory there is is not known"
    share = need / capacity
    told = f"a rank needs {gib(need)} of {gib(capacity)}"
    if share > 1:
        return "does not fit", told
    if share > TIGHT:
        return "tight", f"{told}: {share:.0%}, and an estimate can be a tenth off"
    return "fits", told


def _try(
    change: Change, shape: ModelShape, hardware: Hardware, data: DataCounts | None
) -> Suggestion:
    answer = _judge(change.config, shape, hardware, data)
    return Suggestion(
        keys=change.keys,
        text=change.text,
        cost=change.cost,
        bytes_per_rank=answer.bytes_per_rank,
        verdict=answer.verdict,
    )


def _combine(
    config: TrainConfig, shape: ModelShape, hardware: Hardware, data: DataCounts | None
) -> tuple[Suggestion, ...]:
    """Take the change that saves most, again and again, until the run fits or nothing helps."""
    taken: list[Suggestion] = []
    answer = _judge(config, shape, hardware, data)
    while answer.verdict == "does not fit":
        options = [
            (change, _try(change, shape, hardware, data))
            for change in single_changes(config, answer.recipe)
        ]
        options = [pair for pair in options if pair[1].bytes_per_rank < answer.bytes_per_rank]
        if not options:
            return ()
        fitting = [pair for pair in options if pair[1].verdict in {"fits", "tight"}]
        change, suggestion = (
            fitting[0] if fitting else min(options, key=lambda pair: pair[1].bytes_per_rank)
        )
        taken.append(suggestion)
        config = change.config
        answer = _judge(config, shape, hardware, data)
    return tuple(taken)


def gib(size: int) -> str:
    """Bytes as GiB, or MiB where they are few."""
    return f"{size / GIB:.1f} GiB" if size >= GIB else f"{size / (1 << 20):.0f} MiB"
