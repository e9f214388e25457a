"""A stand-in for the module pynvml: any machine with GPUs, told from plain records.

Used in two ways. In code: ``FakeNvml(eight_h100s())`` goes wherever an ``Nvml`` is asked for. For a
program in another process (the app in a terminal): put ``tests/runners/hardware/pynvml_on_path`` on
PYTHONPATH and name a machine of ``MACHINES`` in MFT_FAKE_NVML; the product imports ``pynvml`` and
finds this instead.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

GIB = 1 << 30
NOT_SUPPORTED, NOT_FOUND, DRIVER_NOT_LOADED, GPU_IS_LOST, UNKNOWN = 3, 6, 9, 15, 999
_WORDS = {
    NOT_SUPPORTED: "Not Supported",
    NOT_FOUND: "Not Found",
    DRIVER_NOT_LOADED: "Driver Not Loaded",
    GPU_IS_LOST: "GPU is lost",
    UNKNOWN: "Unknown Error",
}


class FakeNvmlError(Exception):
    """NVML's error: a number in ``value``, words in ``str``."""

    def __init__(self, value: int) -> None:
        super().__init__(_WORDS.get(value, f"error {value}"))
        self.value = value


@dataclass
class FakeSlice:
    """A MIG slice."""

    uuid: str
    name: str
    total: int
    used: int = 0


@dataclass
class FakeGpu:
    """What one GPU answers. A callable is called, an exception is raised, a value is given back."""

    name: Any
    uuid: Any
    total: Any = 80 * GIB
    used: Any = 1 * GIB
    utilisation: Any = 0
    temperature: Any = 35
    milliwatts: Any = 70_000
    limit_milliwatts: Any = 700_000
    capability: Any = (9, 0)
    mig_mode: Any = (0, 0)
    slices: list[FakeSlice | None] = field(default_factory=list)
    processes: Any = field(default_factory=list)
    nvlinks: int = 18
    lost: bool = False


@dataclass
class FakeNvml:
    """NVML over ``gpus``. ``init_error`` makes it a machine without a working driver; ``asked``
    counts every question."""

    gpus: list[FakeGpu]
    driver: Any = "550.54.15"
    cuda: Any = 12040
    init_error: int | None = None
    asked: int = 0
    open: int = 0

    NVMLError = FakeNvmlError
    NVML_TEMPERATURE_GPU = 0
    NVML_NVLINK_MAX_LINKS = 36

    def nvmlInit(self) -> None:
        if self.init_error is not None:
            raise FakeNvmlError(self.init_error)
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def _answer(self, gpu: FakeGpu | FakeSlice, value: Any) -> Any:
        self.asked += 1
        if getattr(gpu, "lost", False):
            raise FakeNvmlError(GPU_IS_LOST)
        if callable(value):
            value = value()
        if isinstance(value, Exception):
            raise value
        return value

    def nvmlSystemGetDriverVersion(self) -> Any:
        return self.driver

    def nvmlSystemGetCudaDriverVersion_v2(self) -> Any:
        return self.cuda

    def nvmlDeviceGetCount(self) -> int:
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> FakeGpu:
        return self._answer(self.gpus[index], self.gpus[index])

    def nvmlDeviceGetName(self, handle: Any) -> Any:
        return self._answer(handle, handle.name)

    def nvmlDeviceGetUUID(self, handle: Any) -> Any:
        return self._answer(handle, handle.uuid)

    def nvmlDeviceGetMemoryInfo(self, handle: Any) -> Any:
        total, used = self._answer(handle, handle.total), self._answer(handle, handle.used)
        return SimpleNamespace(total=total, used=used, free=max(0, total - used))

    def nvmlDeviceGetUtilizationRates(self, handle: FakeGpu) -> Any:
        return SimpleNamespace(gpu=self._answer(handle, handle.utilisation), memory=0)

    def nvmlDeviceGetTemperature(self, handle: FakeGpu, sensor: int) -> Any:
        return self._answer(handle, handle.temperature)

    def nvmlDeviceGetPowerUsage(self, handle: FakeGpu) -> Any:
        return self._answer(handle, handle.milliwatts)

    def nvmlDeviceGetEnforcedPowerLimit(self, handle: FakeGpu) -> Any:
        return self._answer(handle, handle.limit_milliwatts)

    def nvmlDeviceGetCudaComputeCapability(self, handle: FakeGpu) -> Any:
        return self._answer(handle, handle.capability)

    def nvmlDeviceGetComputeRunningProcesses(self, handle: FakeGpu) -> Any:
        return self._answer(handle, handle.processes)

    def nvmlDeviceGetMigMode(self, handle: FakeGpu) -> Any:
        return self._answer(handle, handle.mig_mode)

    def nvmlDeviceGetMaxMigDeviceCount(self, handle: FakeGpu) -> int:
        return self._answer(handle, max(7, len(handle.slices)))

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: FakeGpu, index: int) -> FakeSlice:
        found = handle.slices[index] if index < len(handle.slices) else None
        if found is None:
            raise FakeNvmlError(NOT_FOUND)
        return found

    def nvmlDeviceGetNvLinkState(self, handle: FakeGpu, link: int) -> int:
        if handle.lost:
            raise FakeNvmlError(GPU_IS_LOST)
        if link >= handle.nvlinks:
            raise FakeNvmlError(NOT_SUPPORTED)
        return 1


def process(pid: int, used: int | None) -> Any:
    """A process as NVML lists it."""
    return SimpleNamespace(pid=pid, usedGpuMemory=used)


def h100(index: int, **changes: Any) -> FakeGpu:
    """One H100 of a server."""
    gpu = FakeGpu("NVIDIA H100 80GB HBM3", f"GPU-{index:08x}-0000-0000-0000-000000000000")
    return replace(gpu, **changes)


def eight_h100s() -> list[FakeGpu]:
    """A server; the second GPU is at work for a process."""
    gpus = [h100(index) for index in range(8)]
    gpus[1] = h100(
        1,
        used=61 * GIB,
        utilisation=97,
        temperature=66,
        milliwatts=643_200,
        processes=[process(4242, 60 * GIB)],
    )
    return gpus


def mig_slices() -> list[FakeGpu]:
    """An H100 cut in three, one place left empty, and an uncut one."""
    slices: list[FakeSlice | None] = [
        FakeSlice("MIG-aaaa0000-1111", "NVIDIA H100 80GB HBM3 MIG 3g.40gb", 40 * GIB),
        FakeSlice("MIG-bbbb0000-2222", "NVIDIA H100 80GB HBM3 MIG 2g.20gb", 20 * GIB),
        None,
        FakeSlice("MIG-bbbb9999-3333", "NVIDIA H100 80GB HBM3 MIG 1g.10gb", 10 * GIB),
    ]
    cut = h100(0, mig_mode=(1, 1), slices=slices, utilisation=FakeNvmlError(NOT_SUPPORTED))
    return [cut, h100(1)]


def one_lost() -> list[FakeGpu]:
    """Four GPUs, of which the third has fallen off the bus."""
    return [h100(0), h100(1), h100(2, lost=True), h100(3)]


def odd_answers() -> list[FakeGpu]:
    """A driver that answers oddly in every way seen: refusals, nonsense, bytes, wrong types."""
    return [
        h100(0, name=b"NVIDIA H100 80GB HBM3", used=90 * GIB),
        h100(1, temperature=4_294_967_295, utilisation=400, milliwatts=FakeNvmlError(UNKNOWN)),
        h100(2, processes=FakeNvmlError(UNKNOWN), capability=TypeError("no such field")),
        h100(3, processes=[process(7, (1 << 64) - 1), process(8, None)], capability=(0, 0)),
    ]


def vanishing(after: int) -> Callable[[], int]:
    """An answer that comes ``after`` times and is then refused: a GPU that disappears."""
    left = [after]

    def used() -> int:
        left[0] -= 1
        if left[0] < 0:
            raise FakeNvmlError(GPU_IS_LOST)
        return 2 * GIB

    return used


MACHINES: dict[str, Callable[[], FakeNvml]] = {
    "eight_h100s": lambda: FakeNvml(eight_h100s()),
    "mig_slices": lambda: FakeNvml(mig_slices()),
    "one_lost": lambda: FakeNvml(one_lost()),
    "odd_answers": lambda: FakeNvml(odd_answers(), driver=b"\xff550", cuda=-5),
    "no_driver": lambda: FakeNvml([], init_error=DRIVER_NOT_LOADED),
    "no_gpu": lambda: FakeNvml([]),
}
