"""GPUs as bars: memory, load, heat and power of each, MIG slices beneath, lost ones said.

It takes the probe's values and the sampler's numbers and draws; it asks no driver.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.text import Text
from textual.app import RenderResult
from textual.widget import Widget

from mft_tui.widgets.quantities import bar, size

if TYPE_CHECKING:
    from runners.hardware.gpus import Gpu
    from runners.hardware.sampler import GpuSample


class GpuTable(Widget):
    """One or two lines a GPU; ``needed`` bytes are drawn as a mark on the memory bar."""

    DEFAULT_CSS = """
    GpuTable { height: auto; padding: 0 1; }
    """

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._gpus: tuple[Gpu, ...] = ()
        self._samples: dict[int, GpuSample] = {}
        self._chosen: frozenset[int] | None = None
        self._cursor: int | None = None
        self._empty = "no NVIDIA GPU: jobs run on the CPU"

    def show(
        self,
        gpus: "Sequence[Gpu]",
        samples: "Sequence[GpuSample]" = (),
        *,
        chosen: frozenset[int] | None = None,
        cursor: int | None = None,
        empty: str | None = None,
    ) -> None:
        """Show these from now on; ``chosen`` are the indices a job would use (None: no choice)."""
        self._gpus = tuple(gpus)
        self._samples = {sample.index: sample for sample in samples}
        self._chosen, self._cursor = chosen, cursor
        self._empty = empty or self._empty
        self.refresh(layout=True)

    def render(self) -> RenderResult:
        if not self._gpus:
            return Text(self._empty, "dim")
        return Text("\n", no_wrap=True, overflow="ellipsis").join(
            line for gpu in self._gpus for line in self._lines(gpu)
        )

    def _lines(self, gpu: "Gpu") -> list[Text]:
        sample = self._samples.get(gpu.index)
        line = Text(no_wrap=True, overflow="ellipsis")
        if self._chosen is not None:
            line.append("▌" if gpu.index == self._cursor else " ", self._tone("accent"))
            line.append("[x] " if gpu.index in self._chosen else "[ ] ")
        line.append(f"{gpu.index}  ", "bold")
        narrow = self.content_size.width < 70
        name = gpu.name.removeprefix("NVIDIA ").removeprefix("Tesla ")
        if gpu.lost or (sample is not None and sample.lost):
            line.append(f"{name}  lost: it no longer answers", self._tone("error"))
            return [line]
        room = 12 if narrow else 22
        line.append(name[:room].ljust(room) + " ")
        memory = (sample and sample.memory) or gpu.memory
        if memory is not None:
            share = memory.used / memory.total
            tone = "error" if share > 0.95 else "warning" if share > 0.85 else "primary"
            line.append(bar(share, 8 if narrow else 16), self._tone(tone))
            line.append(f" {memory.used / 2**30:5.1f} of {memory.total / 2**30:.0f} GiB")
        else:
            line.append("memory not told", "dim")
        load = sample.utilisation if sample else gpu.utilisation
        heat = sample.temperature if sample else gpu.temperature
        power = sample.power if sample else gpu.power
        line.append(f"  {load:3d}%" if load is not None else "")
        line.append(f"  {heat}°C" if heat is not None else "", "dim")
        if not narrow:
            line.append(f"  {power:.0f} W" if power is not None else "", "dim")
        if not narrow and gpu.bf16 is not None:
            line.append("  bf16" if gpu.bf16 else "  no bf16", "dim")
        lines = [line]
        for part in gpu.mig:
            told = f" {size(part.memory.total)}" if part.memory else ""
            lines.append(Text(f"      slice {part.index}  {part.name}{told}", "dim"))
        if gpu.mig_enabled and not gpu.mig:
            lines.append(Text("      MIG is on without a slice: not usable", self._tone("warning")))
        return lines

    def _tone(self, name: str) -> str:
        colour = self.app.theme_variables.get(name, "")
        return colour.removeprefix("ansi_") if colour.startswith("ansi_") else colour
