"""What this machine has, asked once: GPUs, the ones a job may use, CPUs, memory.

Nothing here fails: a machine without a GPU, without a driver, or with a driver that talks nonsense
is described as it is, with the reason in ``notes``.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from runners.hardware.gpus import Gpu, GpuMemory, ProcessName, read_gpus
from runners.hardware.host import Cpus, HostMemory, detect_cpus, detect_memory
from runners.hardware.nvml import Nvml, Questions, load_nvml
from runners.hardware.visible import Accelerator, visible_devices


@dataclass(frozen=True)
class Driver:
    """The NVIDIA driver: its version and the newest CUDA it can run, such as (12, 4)."""

    version: str | None
    cuda: tuple[int, int] | None


@dataclass(frozen=True)
class Hardware:
    """One look at the machine.

    ``gpus`` are all that NVML counts; ``usable`` those that a job started now would see, in CUDA's
    order; ``notes`` sentences about what is missing or odd.
    """

    gpus: tuple[Gpu, ...]
    usable: tuple[Accelerator, ...]
    cpus: Cpus
    memory: HostMemory
    driver: Driver | None = None
    notes: tuple[str, ...] = ()

    @property
    def bf16(self) -> bool:
        """True when there are usable GPUs and every one computes in bfloat16."""
        return bool(self.usable) and all(device.bf16 for device in self.usable)

    @property
    def gpu_memory(self) -> int | None:
        """Total bytes of the smallest usable GPU, None without one or when it is not told."""
        sizes = [device.memory.total for device in self.usable if device.memory]
        return min(sizes) if sizes and len(sizes) == len(self.usable) else None

    def to_json(self) -> dict[str, Any]:
        """Plain lists, dicts and numbers, derived values included."""
        plain = asdict(self)
        for gpu, shown in zip(self.gpus, plain["gpus"], strict=True):
            shown["bf16"] = gpu.bf16
        plain["cpus"]["usable"] = self.cpus.usable
        plain["memory"]["usable"] = self.memory.usable
        return plain


def with_gpus(
    hardware: Hardware, count: int, memory: int, *, name: str = "planned GPU"
) -> Hardware:
    """The same machine as if it had ``count`` empty GPUs of ``memory`` bytes that compute in bf16.

    For planning: what a run would need on a machine that is not this one.
    """
    size = GpuMemory(total=memory, used=0, free=memory)
    devices = tuple(
        Accelerator(f"planned-{index}", name, index, size, None, bf16=True, mig=False)
        for index in range(count)
    )
    return replace(hardware, gpus=(), usable=devices, notes=())


def detect(
    nvml: Nvml | None = None,
    environ: Mapping[str, str] = os.environ,
    *,
    root: Path = Path("/"),
    process_name: ProcessName | None = None,
    cpus: Callable[[Path], Cpus] = detect_cpus,
    memory: Callable[[Path], HostMemory] = detect_memory,
) -> Hardware:
    """Look at the machine. Raises nothing that a driver or a container can cause.

    ``nvml`` stands in for the module ``pynvml``, ``root`` for the file system that holds ``proc``
    and ``sys``, ``process_name`` for the process table.
    """
    gpus, driver, notes = _detect_gpus(nvml or load_nvml(), process_name or describe_process)
    usable, choice_notes = visible_devices(
        gpus,
        environ.get("CUDA_VISIBLE_DEVICES"),
        device_order=environ.get("CUDA_DEVICE_ORDER"),
    )
    return Hardware(
        gpus=gpus,
        usable=usable,
        cpus=cpus(root),
        memory=memory(root),
        driver=driver,
        notes=(*notes, *choice_notes),
    )


def _detect_gpus(
    nvml: Nvml | None, process_name: ProcessName
) -> tuple[tuple[Gpu, ...], Driver | None, tuple[str, ...]]:
    if nvml is None:
        return (), None, ("No GPU information: the package nvidia-ml-py is not installed.",)
    try:
        nvml.nvmlInit()
    except (nvml.NVMLError, OSError, AttributeError) as error:
        return (), None, (f"No NVIDIA driver answers here ({error}); jobs run on the CPU.",)
    questions = Questions(nvml)
    try:
        gpus = read_gpus(questions, process_name)
        driver = _read_driver(questions)
    finally:
        questions.ask("closing NVML", nvml.nvmlShutdown)
    if not gpus:
        questions.note("The NVIDIA driver is there and counts no GPU; jobs run on the CPU.")
    return gpus, driver, tuple(questions.notes)


def _read_driver(questions: Questions) -> Driver:
    nvml = questions.nvml
    version = questions.ask("driver version", nvml.nvmlSystemGetDriverVersion)
    # NVML tells CUDA 12.4 as 12040.
    cuda = questions.ask(
        "CUDA version", nvml.nvmlSystemGetCudaDriverVersion_v2, sane=lambda n: 1000 <= n < 1_000_000
    )
    return Driver(
        version=version.decode(errors="replace") if isinstance(version, bytes) else version,
        cuda=(cuda // 1000, cuda % 1000 // 10) if cuda else None,
    )


def describe_process(pid: int) -> str | None:
    """ "user: program" of a live process, None when it cannot be seen from here."""
    try:
        process = psutil.Process(pid)
        return f"{process.username()}: {process.name()}"
    except (psutil.Error, KeyError):
        return None
