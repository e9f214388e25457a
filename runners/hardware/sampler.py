"""The GPUs' moving numbers for a live view: four cheap questions a GPU, nothing else.

Separate from the probe because a screen asks every second: handles are kept, names, slices and
processes are not read again.
"""

from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from runners.hardware.gpus import (
    GpuMemory,
    read_memory,
    read_power,
    read_temperature,
    read_utilisation,
)
from runners.hardware.nvml import Handle, Nvml, Questions, load_nvml


@dataclass(frozen=True)
class GpuSample:
    """One GPU at one moment; ``lost`` when it stopped answering. Units as in ``Gpu``."""

    index: int
    memory: GpuMemory | None
    utilisation: int | None
    temperature: int | None
    power: float | None
    lost: bool = False


@dataclass
class GpuSampler:
    """Keeps NVML open between samples; a context manager.

    Without a driver it is open on nothing and every sample is empty. A GPU that falls off the bus
    is reported as lost from then on, and the others go on.
    """

    nvml: Nvml | None = field(default_factory=load_nvml)
    _handles: list[Handle | None] = field(default_factory=list, init=False)
    _open: bool = field(default=False, init=False)

    def __enter__(self) -> Self:
        nvml = self.nvml
        if nvml is None:
            return self
        try:
            nvml.nvmlInit()
        except (nvml.NVMLError, OSError, AttributeError):
            return self
        self._open = True
        questions = Questions(nvml)
        for index in range(questions.ask("GPU count", nvml.nvmlDeviceGetCount) or 0):

            def find(index: int = index) -> Handle:
                return nvml.nvmlDeviceGetHandleByIndex(index)

            self._handles.append(questions.ask(f"GPU {index}", find))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._open and self.nvml is not None:
            Questions(self.nvml).ask("closing NVML", self.nvml.nvmlShutdown)
        self._open = False
        self._handles.clear()

    def sample(self) -> tuple[GpuSample, ...]:
        """The numbers now, one entry a GPU in NVML's order."""
        return tuple(self._sample(index, handle) for index, handle in enumerate(self._handles))

    def _sample(self, index: int, handle: Handle | None) -> GpuSample:
        if handle is None or self.nvml is None:
            return GpuSample(index, None, None, None, None, lost=True)
        questions = Questions(self.nvml)
        about = f"GPU {index}"
        memory = read_memory(questions, handle, about)
        if memory is None and questions.notes:
            # Memory is the one question every card answers: a refusal means the card is gone.
            return GpuSample(index, None, None, None, None, lost=True)
        return GpuSample(
            index=index,
            memory=memory,
            utilisation=read_utilisation(questions, handle, about),
            temperature=read_temperature(questions, handle, about),
            power=read_power(questions, handle, about),
        )
