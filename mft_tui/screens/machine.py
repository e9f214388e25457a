"""The machine beside a run: as it is now where the run goes on here, else as it was recorded.

Apart from the monitor because it runs in a lane: NVML is opened by the first look and closed by
whoever looked.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from db.records import LIVE_STATUSES, RunRecord
from mft_tui.widgets.quantities import bar, size
from runners.lifecycle.folders import RunFolder

if TYPE_CHECKING:
    from runners.hardware.gpus import Gpu
    from runners.hardware.sampler import GpuSample, GpuSampler


@dataclass(frozen=True)
class Look:
    """GPUs and their numbers of this moment, or ``words`` about a machine without them."""

    gpus: "tuple[Gpu, ...]" = ()
    samples: "tuple[GpuSample, ...]" = ()
    words: str = ""


class MachineWatch:
    """Looks at this machine. Not thread-safe: keep it to one lane."""

    def __init__(
        self, find: "Callable[[], tuple[Gpu, ...]]", open_sampler: "Callable[[], GpuSampler]"
    ) -> None:
        self._find, self._open_sampler = find, open_sampler
        self._gpus: tuple[Gpu, ...] | None = None
        self._sampler: GpuSampler | None = None

    def look(self) -> Look:
        """How it stands now."""
        if self._gpus is None:
            self._gpus = self._find()
        if not self._gpus:
            return Look(words=_cpu_words())
        if self._sampler is None:
            self._sampler = self._open_sampler()
        return Look(self._gpus, self._sampler.sample())

    def close(self) -> None:
        """Let go of the driver."""
        if self._sampler is not None:
            self._sampler.__exit__(None, None, None)
            self._sampler = None


def _cpu_words() -> str:
    import psutil

    memory, load = psutil.virtual_memory(), psutil.cpu_percent()
    return (
        f"no NVIDIA GPU\nCPU {bar(load / 100, 16)} {load:3.0f}%\n"
        f"RAM {bar(memory.percent / 100, 16)} {memory.used / 2**30:.1f} of "
        f"{memory.total / 2**30:.0f} GiB"
    )


def goes_on_here(run: RunRecord) -> bool:
    """Whether this machine's GPUs are what the run uses now."""
    from runners.lifecycle.processes import Machine

    return run.status in LIVE_STATUSES and run.host == Machine.here().host


def recorded_machine(run: RunRecord) -> str:
    """The machine that the run was launched on, from its own record."""
    from runners.lifecycle.provenance import read_provenance

    found = read_provenance(RunFolder(Path(run.folder)).provenance)
    if found is None:
        return "not recorded"
    return machine_words(found.hardware)


def machine_words(hardware: Mapping[str, Any]) -> str:
    """A recorded machine in a line a kind of thing: the GPUs that the job could see first."""
    seen = Counter(
        (str(gpu.get("name")).removeprefix("NVIDIA "), (gpu.get("memory") or {}).get("total"))
        for gpu in hardware.get("usable") or ()
    )
    lines = [
        f"{count} × {name}" + (f", {size(total)} each" if total else "")
        for (name, total), count in seen.items()
    ] or ["no usable GPU"]
    if cpus := hardware.get("cpus"):
        lines.append(f"CPU {cpus.get('model')}, {cpus.get('usable'):g} usable")
    if memory := hardware.get("memory"):
        lines.append(f"RAM {size(memory.get('total'))}")
    return "\n".join(lines)
