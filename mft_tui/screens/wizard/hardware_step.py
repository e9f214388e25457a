"""Hardware: which GPUs, and whether the run fits in their memory."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import Static

from mft_tui.screens.wizard.step import StepPane
from mft_tui.widgets.gpu_table import GpuTable
from mft_tui.widgets.guard import guarded
from mft_tui.widgets.quantities import bar, size, span

if TYPE_CHECKING:
    from runners.hardware.estimate import Estimate, Suggestion
    from runners.hardware.probe import Hardware
    from runners.hardware.sampler import GpuSampler


class HardwareStep(StepPane, can_focus=True):
    """GPUs as they are now, the ones to use, the memory one rank needs."""

    step = "hardware"
    DEFAULT_CSS = """
    HardwareStep VerticalScroll { height: auto; max-height: 50%; }
    HardwareStep #estimate { height: auto; padding: 0 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False, id="hardware.up"),
        Binding("down,j", "move(1)", "Down", show=False, id="hardware.down"),
        Binding("space", "choose", "Use or not", id="hardware.choose"),
        Binding("c", "cpu", "CPU only", id="hardware.cpu"),
        Binding("a", "apply", "Apply advice", id="hardware.apply"),
    ]

    def __init__(self, draft: Any) -> None:
        super().__init__(draft)
        self._hardware: Hardware | None = None
        self._sampler: GpuSampler | None = None
        self._cursor = 0
        self._advice: tuple[Suggestion, ...] = ()

    def compose(self) -> ComposeResult:
        yield Static("this machine", classes="head first")
        with VerticalScroll():
            yield GpuTable()
        yield Static(id="host", classes="said")
        yield Static("memory of one rank", classes="head")
        yield Static(id="estimate")

    def on_mount(self) -> None:
        self.set_interval(2.0, self._sample)

    def command(self, config: str) -> list[str]:
        return ["mft-tui", "estimate", config]

    def enter(self) -> None:
        self._look()

    @guarded(group="hardware", exclusive=True)
    async def _look(self) -> None:
        lane = self.mft.lanes["machine"]
        if self._hardware is None:
            self._hardware = await lane.call(_detect)
            self._sampler = await lane.call(_open_sampler)
        self._show()
        await self._estimate()

    @guarded(group="sample", exclusive=True)
    async def _sample(self) -> None:
        if self._sampler is None or self._hardware is None or not self.is_on_screen:
            return
        if self._hardware.gpus:
            samples = await self.mft.lanes["machine"].call(self._sampler.sample)
            self._show(samples)

    def _show(self, samples: Any = ()) -> None:
        assert self._hardware is not None
        gpus = self._hardware.gpus
        self.query_one(GpuTable).show(gpus, samples, chosen=self._chosen(), cursor=self._cursor)
        host = self._hardware
        words = f"{host.cpus.usable:g} CPUs · {size(host.memory.usable)} memory"
        if host.driver is not None and host.driver.version:
            words += f" · driver {host.driver.version}"
        text = Text(words, "dim")
        for note in host.notes:
            text.append(f"\n{note}", "dim")
        self.query_one("#host", Static).update(text)

    def _usable(self) -> list[int]:
        assert self._hardware is not None
        return [gpu.index for gpu in self._hardware.gpus if not gpu.lost]

    def _chosen(self) -> frozenset[int]:
        values = self.draft.of("train")
        if values.get("use_cpu"):
            return frozenset()
        named = [int(part) for part in values.get("gpu_ids", []) if str(part).isdigit()]
        return frozenset(named or self._usable())

    # Choosing

    def action_move(self, step: int) -> None:
        if self._hardware is not None and self._hardware.gpus:
            self._cursor = max(0, min(len(self._hardware.gpus) - 1, self._cursor + step))
            self._show()

    def action_choose(self) -> None:
        """Use the GPU under the cursor, or leave it to others."""
        if self._hardware is None or not self._hardware.gpus:
            return
        index = self._hardware.gpus[self._cursor].index
        if index not in self._usable():
            self.notify("This GPU does not answer", severity="warning")
            return
        chosen = set(self._chosen()) ^ {index}
        values = self.draft.of("train")
        values.pop("use_cpu", None)
        values.pop("gpu_ids", None)
        if not chosen:
            values["use_cpu"] = True
        elif chosen != set(self._usable()):
            values["gpu_ids"] = [str(i) for i in sorted(chosen)]
        self._decided()

    def action_cpu(self) -> None:
        """Train on the CPU even where there is a GPU, or not."""
        values = self.draft.of("train")
        if not values.pop("use_cpu", False):
            values["use_cpu"] = True
        self._decided()

    def action_apply(self) -> None:
        """Take the first change that would make the run fit."""
        if not self._advice:
            self.notify("There is no advice to take", timeout=2)
            return
        for key, value in self._advice[0].keys.items():
            self.draft.of("train")[key] = value
        self._decided()

    def _decided(self) -> None:
        self.post_message(self.Changed())
        self._look()

    # The estimate

    async def _estimate(self) -> None:
        answer = await self.mft.lanes["data"].call(
            estimate_draft, dict(self.draft.of("train")), self._hardware
        )
        shown = self.query_one("#estimate", Static)
        if isinstance(answer, str):
            self._advice = ()
            shown.update(Text(answer, "dim"))
            self.tell("")
            return
        self._advice = answer.suggestions or answer.together
        shown.update(self._words(answer))
        good = answer.verdict in ("fits", "unknown", "tight")
        self.tell(f"{'ok' if good else 'problem'}: {answer.verdict}")

    def _words(self, answer: "Estimate") -> Text:
        return estimate_words(answer, self.app.theme_variables)


def estimate_words(answer: "Estimate", colours: dict[str, str]) -> Text:
    """An estimate as a bar, its reason, what it is made of and what would help."""
    tone = {"fits": "success", "tight": "warning", "does not fit": "error"}.get(answer.verdict, "")
    colour = colours.get(tone, "").removeprefix("ansi_")
    text = Text()
    if answer.capacity:
        text.append(bar(answer.bytes_per_rank / answer.capacity, 30), colour)
        text.append("  ")
    text.append(answer.verdict, f"bold {colour}")
    text.append(f"   {answer.reason}\n")
    recipe = answer.recipe
    text.append(
        f"{recipe.ranks} rank{'s' * (recipe.ranks != 1)} on {recipe.device}, "
        f"ZeRO {recipe.zero_stage}, {answer.rank.trainable:,} of {answer.shape.parameters:,} "
        "parameters trained\n",
        "dim",
    )
    if answer.speed is not None and (seconds := getattr(answer.speed, "seconds", None)):
        text.append(f"about {span(seconds)}\n", "dim")
    for suggestion in answer.suggestions or answer.together:
        text.append(f"• {suggestion.text}", "bold")
        text.append(f"  {size(suggestion.bytes_per_rank)} a rank, {suggestion.cost}\n", "dim")
    return text


def estimate_draft(values: dict[str, Any], hardware: "Hardware | None") -> "Estimate | str":
    """The estimate of a draft, or the sentence that says why there is none yet."""
    from runners.config.resolve import resolve
    from runners.config.train import TrainConfig
    from runners.errors import MftError
    from runners.hardware.estimate import estimate
    from runners.models.families import read_model_config

    if not values.get("pretrained_model_path"):
        return "Name a model first: the estimate is made from its config."
    try:
        config = resolve("train", flags={"data_paths": ["unnamed"], **values}).config
        assert isinstance(config, TrainConfig)
        model_config = read_model_config(Path(config.pretrained_model_path))
        return estimate(config, model_config, hardware or _detect())
    except MftError as error:
        return error.what


def _detect() -> "Hardware":
    from runners.hardware.probe import detect

    return detect()


def _open_sampler() -> "GpuSampler":
    from runners.hardware.sampler import GpuSampler

    return GpuSampler().__enter__()
