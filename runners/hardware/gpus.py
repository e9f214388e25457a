"""What is known of each GPU: identity, memory and who holds it, sensors, MIG slices, NVLink.

Reading is separate from choosing: which of these GPUs a job may use is in ``visible.py``.
"""

from collections.abc import Callable
from dataclasses import dataclass

from runners.hardware.nvml import Handle, Nvml, Questions

ProcessName = Callable[[int], str | None]
"""From a process id to "user: program", or None when the process cannot be seen from here."""


@dataclass(frozen=True)
class GpuMemory:
    """Bytes of a GPU or slice; ``used`` counts every process and the driver."""

    total: int
    used: int
    free: int


@dataclass(frozen=True)
class GpuProcess:
    """A process that holds memory of a GPU.

    ``memory`` is None where the driver does not say, ``who`` where the process lives outside this
    container.
    """

    pid: int
    memory: int | None
    who: str | None


@dataclass(frozen=True)
class MigSlice:
    """A MIG instance: a fixed part of a GPU that programs see as a GPU of its own."""

    index: int
    uuid: str
    name: str
    memory: GpuMemory | None


@dataclass(frozen=True)
class Gpu:
    """One physical GPU as NVML numbers it. None means that the driver did not say.

    ``utilisation`` is in percent, ``temperature`` in °C, power in watts, ``nvlinks`` the number of
    links that are up. ``lost`` is a GPU that is counted but no longer answers.
    """

    index: int
    uuid: str
    name: str
    memory: GpuMemory | None = None
    processes: tuple[GpuProcess, ...] = ()
    utilisation: int | None = None
    temperature: int | None = None
    power: float | None = None
    power_limit: float | None = None
    compute_capability: tuple[int, int] | None = None
    mig_enabled: bool = False
    mig: tuple[MigSlice, ...] = ()
    nvlinks: int | None = None
    lost: bool = False

    @property
    def bf16(self) -> bool | None:
        """Whether the GPU computes in bfloat16 (Ampere and later); None when it is not known."""
        if self.compute_capability is None:
            return None
        return self.compute_capability >= (8, 0)


def read_gpus(questions: Questions, process_name: ProcessName) -> tuple[Gpu, ...]:
    """Every GPU that NVML counts, in its order, lost ones included. NVML must be initialised."""
    nvml = questions.nvml
    count = questions.ask("GPU count", nvml.nvmlDeviceGetCount, sane=lambda n: 0 <= n <= 1024)
    return tuple(_read_gpu(questions, index, process_name) for index in range(count or 0))


def _read_gpu(questions: Questions, index: int, process_name: ProcessName) -> Gpu:
    nvml = questions.nvml
    about = f"GPU {index}"
    handle = questions.ask(about, lambda: nvml.nvmlDeviceGetHandleByIndex(index))
    name = handle and questions.ask(f"{about} name", lambda: nvml.nvmlDeviceGetName(handle))
    uuid = handle and questions.ask(f"{about} uuid", lambda: nvml.nvmlDeviceGetUUID(handle))
    if handle is None or (name is None and uuid is None):
        questions.note(f"{about} is counted but does not answer; no job will be sent to it.")
        return Gpu(index, uuid="", name="unknown", lost=True)
    mig_enabled, slices = _read_mig(questions, handle, about)
    capability = questions.ask(
        f"{about} compute capability",
        lambda: nvml.nvmlDeviceGetCudaComputeCapability(handle),
        sane=lambda pair: 1 <= pair[0] <= 99 and 0 <= pair[1] <= 99,
    )
    return Gpu(
        index=index,
        uuid=_text(uuid) if uuid else "",
        name=_text(name) if name else "unknown",
        memory=read_memory(questions, handle, about),
        processes=_read_processes(questions, handle, about, process_name),
        utilisation=read_utilisation(questions, handle, about),
        temperature=read_temperature(questions, handle, about),
        power=read_power(questions, handle, about),
        power_limit=_watts(
            questions.ask(
                f"{about} power limit",
                lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(handle),
                sane=lambda milliwatts: 0 < milliwatts < 10_000_000,
            )
        ),
        compute_capability=(int(capability[0]), int(capability[1])) if capability else None,
        mig_enabled=mig_enabled,
        mig=slices,
        nvlinks=_count_nvlinks(nvml, handle),
    )


def read_memory(questions: Questions, handle: Handle, about: str) -> GpuMemory | None:
    """Bytes total, used and free of a GPU or slice."""
    info = questions.ask(
        f"{about} memory",
        lambda: questions.nvml.nvmlDeviceGetMemoryInfo(handle),
        sane=lambda m: 0 < m.total < 1 << 50 and 0 <= m.used <= m.total and 0 <= m.free <= m.total,
    )
    return info and GpuMemory(total=int(info.total), used=int(info.used), free=int(info.free))


def read_utilisation(questions: Questions, handle: Handle, about: str) -> int | None:
    """Percent of the last sample period in which a kernel ran."""
    rates = questions.ask(
        f"{about} utilisation",
        lambda: questions.nvml.nvmlDeviceGetUtilizationRates(handle),
        sane=lambda r: 0 <= r.gpu <= 100,
    )
    return int(rates.gpu) if rates is not None else None


def read_temperature(questions: Questions, handle: Handle, about: str) -> int | None:
    """°C of the die."""
    nvml = questions.nvml
    return questions.ask(
        f"{about} temperature",
        lambda: int(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)),
        sane=lambda degrees: 0 < degrees < 150,
    )


def read_power(questions: Questions, handle: Handle, about: str) -> float | None:
    """Watts drawn now."""
    return _watts(
        questions.ask(
            f"{about} power",
            lambda: questions.nvml.nvmlDeviceGetPowerUsage(handle),
            sane=lambda milliwatts: 0 <= milliwatts < 10_000_000,
        )
    )


def _watts(milliwatts: int | None) -> float | None:
    return None if milliwatts is None else milliwatts / 1000


def _read_processes(
    questions: Questions, handle: Handle, about: str, process_name: ProcessName
) -> tuple[GpuProcess, ...]:
    found = questions.ask(
        f"{about} processes",
        lambda: list(questions.nvml.nvmlDeviceGetComputeRunningProcesses(handle)),
    )
    return tuple(
        GpuProcess(int(p.pid), _positive(p.usedGpuMemory), process_name(int(p.pid)))
        for p in found or ()
    )


def _positive(value: int | None) -> int | None:
    # Drivers spell "not available" as None, as -1 or as all ones.
    return int(value) if value is not None and 0 <= value < 1 << 50 else None


def _read_mig(
    questions: Questions, handle: Handle, about: str
) -> tuple[bool, tuple[MigSlice, ...]]:
    nvml = questions.nvml
    mode = questions.ask(
        f"{about} MIG mode",
        lambda: nvml.nvmlDeviceGetMigMode(handle),
        sane=lambda pair: pair[0] in (0, 1),
    )
    if not mode or mode[0] == 0:
        return False, ()
    most = questions.ask(
        f"{about} MIG slices",
        lambda: nvml.nvmlDeviceGetMaxMigDeviceCount(handle),
        sane=lambda n: 0 <= n <= 64,
    )
    slices = []
    for index in range(most or 0):
        place = f"{about} MIG slice {index}"

        def find(index: int = index) -> Handle:
            return nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)

        part = questions.ask(place, find)
        if part is None:  # an empty place: slices need not be numbered without gaps
            continue

        def identify(part: Handle = part) -> str:
            return _text(nvml.nvmlDeviceGetUUID(part))

        def call(part: Handle = part) -> str:
            return _text(nvml.nvmlDeviceGetName(part))

        uuid = questions.ask(f"{place} uuid", identify)
        if uuid is None:
            continue
        name = questions.ask(f"{place} name", call) or "MIG slice"
        slices.append(MigSlice(index, uuid, name, read_memory(questions, part, place)))
    if not slices:
        questions.note(
            f"{about} has MIG on but holds no slice, so CUDA cannot use it: "
            "make one with `nvidia-smi mig -cgi … -C`, or turn MIG off."
        )
    return True, tuple(slices)


def _count_nvlinks(nvml: Nvml, handle: Handle) -> int | None:
    up = 0
    for link in range(nvml.NVML_NVLINK_MAX_LINKS):
        try:
            up += nvml.nvmlDeviceGetNvLinkState(handle, link) == 1
        except (nvml.NVMLError, AttributeError, TypeError, ValueError):
            # The highest link number differs from card to card; asking past it is the only way
            # to find it, and a card without NVLink refuses at 0.
            return up if link else None
    return up


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
