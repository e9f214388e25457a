"""GPUs as bars: memory, load, heat and power of each, MIG slices beneath, lost ones said.

It takes the probe's values and the sampler's numbers and draws; it asks no driver.
"""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.text import Text
from textual.app import RenderResult
from textual.widget import Widget

from mft_tui.widgets.quantities import bar

if TYPE_CHECKING:
    from runners.hardware.gpus import Gpu, GpuMemory
    from runners.hardware.sampler import GpuSample

_NOT_IN_A_NAME = re.compile(r"^(NVIDIA |Tesla )+|[ -]HBM\w*")


def device_ids(gpus: "Sequence[Gpu]") -> tuple[str, ...]:
    """What a job can be given, as CUDA_VISIBLE_DEVICES names it: whole GPUs, and MIG slices.

    In the order of the table's lines; a GPU that is lost keeps its place.
    """
    found: list[str] = []
    for gpu in gpus:
        if gpu.mig_enabled and not gpu.lost:
            found += [part.uuid for part in gpu.mig]
        else:
            found.append(str(gpu.index))
    return tuple(found)


class GpuTable(Widget):
    """A line a GPU, and one for each of its MIG slices."""

    DEFAULT_CSS = """
    GpuTable { height: auto; padding: 0 1; }
    """

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._gpus: tuple[Gpu, ...] = ()
        self._samples: dict[int, GpuSample] = {}
        self._chosen: frozenset[str] | None = None
        self._cursor: str | None = None
        self._empty = "no NVIDIA GPU: jobs run on the CPU"

    def show(
        self,
        gpus: "Sequence[Gpu]",
        samples: "Sequence[GpuSample]" = (),
        *,
        chosen: frozenset[str] | None = None,
        cursor: str | None = None,
        empty: str | None = None,
    ) -> None:
        """Show these from now on; ``chosen`` are those a job would use (None: no choice).

        ``chosen`` and ``cursor`` are of ``device_ids``.
        """
        self._gpus = tuple(gpus)
        self._samples = {sample.index: sample for sample in samples}
        self._chosen, self._cursor = chosen, cursor
        self._empty = empty or self._empty
        self.refresh(layout=True)

    @property
    def line_of_cursor(self) -> int:
        """The line that the cursor stands on, from 0."""
        line = 0
        for gpu in self._gpus:
            names = [str(gpu.index), *(part.uuid for part in gpu.mig)]
            if self._cursor in names:
                return line + names.index(self._cursor)
            line += len(self._lines(gpu))
        return 0

    def render(self) -> RenderResult:
        if not self._gpus:
            return Text(self._empty, "dim")
        lines = [line for gpu in self._gpus for line in self._lines(gpu)]
        for line in lines:
            line.truncate(self.content_size.width, overflow="ellipsis")
        return Text("\n", no_wrap=True).join(lines)

    def _lines(self, gpu: "Gpu") -> list[Text]:
        sample = self._samples.get(gpu.index)
        lost = gpu.lost or (sample is not None and sample.lost)
        name = _NOT_IN_A_NAME.sub("", gpu.name)
        # A GPU that is cut is no choice: its slices are.
        line = self._head("" if gpu.mig_enabled and not lost else str(gpu.index))
        line.append(f"{gpu.index}  ", "bold")
        if lost:
            return [line.append(f"{name}  lost: it no longer answers", self._tone("error"))]
        narrow = self.content_size.width < 70
        room = 12 if narrow else 22
        line.append(name[:room].ljust(room) + " ")
        self._append_memory(line, (sample and sample.memory) or gpu.memory, 8 if narrow else 16)
        for told, style in self._told(gpu, sample):
            # What there is no room for is left out from the right, whole.
            if line.cell_len + len(told) <= self.content_size.width:
                line.append(told, style)
        lines = [line]
        for part in gpu.mig:
            inner = self._head(part.uuid).append(f"   slice {part.index}  ", "dim")
            inner.append(f"{_NOT_IN_A_NAME.sub('', part.name).split('MIG ')[-1]:<9} ")
            self._append_memory(inner, part.memory, 8 if narrow else 16)
            lines.append(inner)
        if gpu.mig_enabled and not gpu.mig:
            lines.append(Text("      MIG is on without a slice: not usable", self._tone("warning")))
        return lines

    def _head(self, device: str) -> Text:
        """The cursor and the box of a choice, where there is one."""
        line = Text(no_wrap=True)
        if self._chosen is None:
            return line
        line.append("▌" if device and device == self._cursor else " ", self._tone("accent"))
        return line.append(("[x] " if device in self._chosen else "[ ] ") if device else "    ")

    def _append_memory(self, line: Text, memory: "GpuMemory | None", room: int) -> None:
        if memory is None:
            line.append("memory not told", "dim")
            return
        share = memory.used / memory.total
        tone = "error" if share > 0.95 else "warning" if share > 0.85 else "primary"
        line.append(bar(share, room), self._tone(tone))
        line.append(f" {memory.used / 2**30:5.1f} of {memory.total / 2**30:.0f} GiB")

    def _told(self, gpu: "Gpu", sample: "GpuSample | None") -> list[tuple[str, str]]:
        load = sample.utilisation if sample else gpu.utilisation
        heat = sample.temperature if sample else gpu.temperature
        power = sample.power if sample else gpu.power
        told = [
            (f"  {load:3d}%" if load is not None else "", ""),
            (f"  {heat}°C" if heat is not None else "", "dim"),
            (f"  {power:3.0f} W" if power is not None else "", "dim"),
        ]
        if gpu.bf16 is not None:
            told.append(("  bf16" if gpu.bf16 else "  no bf16", "dim"))
        return told

    def _tone(self, name: str) -> str:
        colour = self.app.theme_variables.get(name, "")
        return colour.removeprefix("ansi_") if colour.startswith("ansi_") else colour
