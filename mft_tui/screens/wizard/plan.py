"""What a draft's training would need of this machine, and which settings suit it; pure.

Apart from the hardware page because the review shows the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from mft_tui.widgets.quantities import bar, size, span

if TYPE_CHECKING:
    from runners.config import TrainConfig
    from runners.hardware.estimate import Estimate
    from runners.hardware.probe import Hardware


@dataclass(frozen=True)
class Change:
    """A setting that would suit the machine better: its value now, and the suggested one."""

    key: str
    now: object
    then: object


@dataclass(frozen=True)
class Plan:
    """The estimate of a draft, the settings that suit the machine, and why.

    ``changes`` is empty where all is as suggested, and where nothing of the kind makes the run fit;
    then ``further`` has settings of other kinds that would, if there are any.
    """

    estimate: "Estimate"
    reason: str
    changes: tuple[Change, ...]
    further: Mapping[str, object]

    @property
    def advice(self) -> dict[str, object]:
        """The settings to take next; none when nothing is to be done."""
        return {change.key: change.then for change in self.changes} or dict(self.further)


def without_lost(hardware: "Hardware", lost: frozenset[int]) -> "Hardware":
    """The machine when the GPUs of these indices no longer answer."""
    gpus = tuple(replace(gpu, lost=gpu.lost or gpu.index in lost) for gpu in hardware.gpus)
    usable = tuple(device for device in hardware.usable if device.gpu_index not in lost)
    return replace(hardware, gpus=gpus, usable=usable)


def usable_ids(hardware: "Hardware") -> tuple[str, ...]:
    """What a job would use that names nothing, as CUDA_VISIBLE_DEVICES names it."""
    return tuple(d.uuid if d.mig else str(d.gpu_index) for d in hardware.usable)


def chosen_hardware(hardware: "Hardware", named: list[str]) -> "Hardware":
    """The machine as a job sees it that names these GPUs or slices; all when it names none."""
    from runners.hardware.visible import visible_devices

    if not named:
        return hardware
    usable, _ = visible_devices(hardware.gpus, ",".join(named))
    return replace(hardware, usable=usable)


def plan_draft(values: Mapping[str, Any], hardware: "Hardware") -> "Plan | str":
    """The plan of a draft, or the sentence that says why there is none yet."""
    from runners.errors import MftError
    from runners.hardware.estimate import estimate
    from runners.hardware.suggest import suggest

    try:
        read = _read(values)
        if isinstance(read, str):
            return read
        config, model_config = read
        machine = chosen_hardware(hardware, config.gpu_ids)
        answer = estimate(config, model_config, machine)
        suggested = suggest(machine, model_config, config)
        if suggested.estimate.verdict == "does not fit":
            further: dict[str, object] = {}
            for one in answer.suggestions[:1] or answer.together:
                further |= one.keys
            why = f"No ZeRO stage, offload or recomputation is enough: {suggested.estimate.reason}."
            return Plan(answer, why, (), further)
        now = config.model_dump(mode="json")
        same = suggested.estimate.recipe == answer.recipe
        changes = tuple(
            Change(key, now[key], then)
            for key, then in suggested.keys.items()
            # What is left to "auto" comes out as is suggested.
            if not same and now[key] != then and now[key] != "auto"
        )
        return Plan(answer, suggested.reason, changes, {})
    except MftError as error:
        return error.what


def estimate_draft(values: Mapping[str, Any], hardware: "Hardware") -> "Estimate | str":
    """The estimate alone, or the sentence that says why there is none yet."""
    from runners.errors import MftError
    from runners.hardware.estimate import estimate

    try:
        read = _read(values)
        if isinstance(read, str):
            return read
        config, model_config = read
        return estimate(config, model_config, chosen_hardware(hardware, config.gpu_ids))
    except MftError as error:
        return error.what


def _read(values: Mapping[str, Any]) -> "tuple[TrainConfig, dict[str, Any]] | str":
    from runners.config import TrainConfig
    from runners.config.resolve import resolve
    from runners.models.families import read_model_config

    if not values.get("pretrained_model_path"):
        return "Name a model first: the estimate is made from its config."
    config = resolve("train", flags={"data_paths": ["unnamed"], **values}).config
    assert isinstance(config, TrainConfig)
    return config, read_model_config(Path(config.pretrained_model_path))


def estimate_words(answer: "Estimate", colours: Mapping[str, str]) -> Text:
    """An estimate as a bar, its reason, what it is made of and what would help."""
    tone = {"fits": "success", "tight": "warning", "does not fit": "error"}.get(answer.verdict, "")
    colour = colours.get(tone, "").removeprefix("ansi_")
    text = Text()
    if answer.capacity:
        text.append(bar(answer.bytes_per_rank / answer.capacity, 30), colour)
        text.append("  ")
    text.append(f"{answer.verdict}\n", f"bold {colour}")
    text.append(f"{answer.reason}\n")
    recipe = answer.recipe
    text.append(
        f"{recipe.ranks} rank{'s' * (recipe.ranks != 1)} on {recipe.device}, "
        f"ZeRO {recipe.zero_stage}\n"
        f"{answer.rank.trainable:,} of {answer.shape.parameters:,} parameters trained\n",
        "dim",
    )
    if answer.speed is not None and (seconds := answer.speed.seconds):
        text.append(f"about {span(seconds)}\n", "dim")
    for suggestion in answer.suggestions or answer.together:
        text.append(f"• {suggestion.text}", "bold")
        text.append(f"  {size(suggestion.bytes_per_rank)} a rank, {suggestion.cost}\n", "dim")
    text.rstrip()
    return text


def parts_words(answer: "Estimate") -> Text:
    """What the memory of one rank is made of, the largest part first."""
    parts = [(name, count) for name, count in answer.to_json()["parts"].items() if count]
    text = Text()
    for name, count in sorted(parts, key=lambda part: -part[1]):
        text.append(f"{name:<12}", "dim")
        text.append(f"{bar(count / answer.bytes_per_rank, 18)}")
        text.append(f" {size(count):>10}\n", "dim")
    text.append(f"the peak comes at the {answer.rank.moment}\n", "dim")
    return text


def suggested_words(plan: Plan) -> Text:
    """The settings that suit the machine: what would change, and why."""
    from mft_tui.widgets.config_fields import shown

    text = Text(f"{plan.reason}\n")
    if plan.further:
        return text.append("a takes the change that would help, at the left.\n", "bold")
    if not plan.changes:
        fits = plan.estimate.verdict != "does not fit"
        said = "The settings do that already." if fits else "Take more or larger GPUs."
        return text.append(f"{said}\n", "dim")
    for change in plan.changes:
        text.append(f"{change.key:<24}")
        text.append(f"{shown(change.now)} → ", "dim")
        text.append(f"{shown(change.then)}\n", "bold")
    return text
