"""Hardware: which GPUs, whether the run fits in their memory, and the settings that suit them."""

from typing import TYPE_CHECKING, Any, ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.geometry import Region
from textual.widgets import Static

from mft_tui.screens.machine import MachineWatch
from mft_tui.screens.wizard.plan import (
    Plan,
    chosen_hardware,
    estimate_words,
    parts_words,
    plan_draft,
    suggested_words,
    usable_ids,
    without_lost,
)
from mft_tui.screens.wizard.step import StepPane
from mft_tui.widgets.gpu_table import GpuTable, device_ids
from mft_tui.widgets.guard import guarded
from mft_tui.widgets.quantities import size

if TYPE_CHECKING:
    from runners.hardware.gpus import Gpu
    from runners.hardware.probe import Hardware
    from runners.hardware.sampler import GpuSample, GpuSampler


class HardwareStep(StepPane, can_focus=True):
    """GPUs as they are now, the ones to use, the memory one rank needs, what suits them."""

    step = "hardware"
    DEFAULT_CSS = """
    HardwareStep #gpus { height: auto; max-height: 50%; }
    HardwareStep #plan { height: 1fr; }
    HardwareStep #plan Static { height: auto; padding: 0 1; }
    HardwareStep #parts { display: none; margin-top: 1; }
    HardwareStep.-wide #parts { display: block; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False, id="hardware.up"),
        Binding("down,j", "move(1)", "Down", show=False, id="hardware.down"),
        Binding("space", "choose", "Use or not", id="hardware.choose"),
        Binding("c", "cpu", "CPU only", id="hardware.cpu"),
        Binding("a", "apply", "Take advice", id="hardware.apply"),
    ]

    def __init__(self, draft: Any) -> None:
        super().__init__(draft)
        self._hardware: Hardware | None = None
        self._machine = MachineWatch(lambda: _gpus_of(self._hardware), _open_sampler)
        self._samples: tuple[GpuSample, ...] = ()
        self._cursor = 0
        self._plan: Plan | None = None

    def compose(self) -> ComposeResult:
        yield Static("this machine", classes="head first")
        with VerticalScroll(id="gpus", can_focus=False):
            yield GpuTable()
        yield Static(id="host", classes="said")
        with VerticalScroll(id="plan", classes="columns"):
            with Vertical():
                yield Static("memory of one rank", classes="head")
                yield Static(id="estimate")
                yield Static(id="parts")
            with Vertical(id="advice"):
                yield Static("suggested for this machine", classes="head")
                yield Static(id="suggested")

    def on_mount(self) -> None:
        self.set_interval(2.0, self._sample)

    def on_unmount(self) -> None:
        self.mft.lanes["machine"].post(self._machine.close)

    def command(self, config: str) -> list[str]:
        return ["mft-tui", "estimate", config]

    def enter(self) -> None:
        self._look()

    def focus_first(self) -> None:
        self.focus()

    @guarded(group="hardware", exclusive=True)
    async def _look(self) -> None:
        if self._hardware is None:
            self._hardware = await self.mft.lanes["machine"].call(_detect)
        self._show()
        await self._make_plan(self._hardware)

    @guarded(group="sample", exclusive=True)
    async def _sample(self) -> None:
        if self._hardware is None or not self._hardware.gpus or not self.is_on_screen:
            return
        # Opened by the first look, in the lane: a choice made meanwhile ends who waits for it here.
        self._samples = (await self.mft.lanes["machine"].call(self._machine.look)).samples
        gone = {sample.index for sample in self._samples if sample.lost}
        gone -= {gpu.index for gpu in self._hardware.gpus if gpu.lost}
        if gone:
            self._hardware = without_lost(self._hardware, frozenset(gone))
            self._leave_out_lost()
            self._decided()
        else:
            self._show()

    def _leave_out_lost(self) -> None:
        """Name no GPU that is gone, unless no other was wanted: then the page says so."""
        values = self.draft.of("train")
        usable = set(self._choices())
        if named := [str(one) for one in values.get("gpu_ids", [])]:
            values["gpu_ids"] = [one for one in named if one in usable] or named

    def _show(self) -> None:
        if (host := self._hardware) is None:
            return
        devices = device_ids(host.gpus)
        self.query_one(GpuTable).show(
            host.gpus,
            self._samples,
            chosen=self._chosen(),
            cursor=devices[self._cursor] if devices else None,
        )
        words = f"{host.cpus.usable:g} CPUs · {size(host.memory.usable)} memory"
        if host.driver is not None and host.driver.version:
            words += f" · driver {host.driver.version}"
        text = Text(words, "dim")
        for note in host.notes:
            text.append(f"\n{note}", "dim")
        self.query_one("#host", Static).update(text)

    def _choices(self) -> tuple[str, ...]:
        """What can be chosen: all that answers."""
        assert self._hardware is not None
        return device_ids([gpu for gpu in self._hardware.gpus if not gpu.lost])

    def _chosen(self) -> frozenset[str]:
        assert self._hardware is not None
        values = self.draft.of("train")
        if values.get("use_cpu"):
            return frozenset()
        named = [str(one) for one in values.get("gpu_ids", [])]
        return frozenset(usable_ids(chosen_hardware(self._hardware, named)))

    # Choosing

    def action_move(self, step: int) -> None:
        if self._hardware is not None and self._hardware.gpus:
            last = len(device_ids(self._hardware.gpus)) - 1
            self._cursor = max(0, min(last, self._cursor + step))
            self._show()
            line = self.query_one(GpuTable).line_of_cursor
            self.query_one("#gpus").scroll_to_region(Region(0, line, 1, 1), animate=False)

    def action_choose(self) -> None:
        """Use the GPU or slice under the cursor, or leave it to others."""
        if self._hardware is None or not self._hardware.gpus:
            return
        device = device_ids(self._hardware.gpus)[self._cursor]
        if device not in self._choices():
            self.notify("This GPU does not answer", severity="warning")
            return
        chosen = set(self._chosen()) ^ {device}
        slices = {one for one in chosen if one.startswith("MIG-")}
        if slices and len(chosen) > 1:
            # A CUDA program can use one slice and nothing beside it: the last choice holds.
            chosen = {device} if device in slices else chosen - slices
        values = self.draft.of("train")
        values.pop("use_cpu", None)
        values.pop("gpu_ids", None)
        if not chosen:
            values["use_cpu"] = True
        elif chosen != set(usable_ids(self._hardware)):
            values["gpu_ids"] = [one for one in self._choices() if one in chosen]
        self._decided()

    def action_cpu(self) -> None:
        """Train on the CPU even where there is a GPU, or not."""
        values = self.draft.of("train")
        if not values.pop("use_cpu", False):
            values["use_cpu"] = True
        self._decided()

    def action_apply(self) -> None:
        """Take the suggested settings; where they are taken, the next change that would help."""
        advice = self._plan.advice if self._plan is not None else {}
        if not advice:
            self.notify("The settings are as suggested", timeout=2)
            return
        self.draft.of("train").update(advice)
        self._decided()

    def _decided(self) -> None:
        self.post_message(self.Changed())
        self._look()

    # The plan

    async def _make_plan(self, hardware: "Hardware") -> None:
        values = dict(self.draft.of("train"))
        answer: Plan | str = "None of the GPUs that were chosen answers: choose others, or the CPU."
        named_none = bool(values.get("gpu_ids")) and not self._chosen()
        if not named_none or values.get("use_cpu"):
            named_none = False
            answer = await self.mft.lanes["data"].call(plan_draft, values, hardware)
        self._plan = None if isinstance(answer, str) else answer
        self.query_one("#advice").display = self._plan is not None
        if isinstance(answer, str):
            self.query_one("#estimate", Static).update(Text(answer, "dim"))
            self.query_one("#parts", Static).update("")
            self.tell("problem: no GPU that was chosen answers" if named_none else "")
            return
        estimate = answer.estimate
        self.query_one("#estimate", Static).update(
            estimate_words(estimate, self.app.theme_variables)
        )
        self.query_one("#parts", Static).update(parts_words(estimate))
        self.query_one("#suggested", Static).update(suggested_words(answer))
        good = estimate.verdict in ("fits", "unknown", "tight")
        self.tell(f"{'ok' if good else 'problem'}: {estimate.verdict}")


def _gpus_of(hardware: "Hardware | None") -> "tuple[Gpu, ...]":
    return () if hardware is None else hardware.gpus


def _detect() -> "Hardware":
    from runners.hardware.probe import detect

    return detect()


def _open_sampler() -> "GpuSampler":
    from runners.hardware.sampler import GpuSampler

    return GpuSampler().__enter__()
