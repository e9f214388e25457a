"""Which GPUs a CUDA program started now would see: CUDA_VISIBLE_DEVICES over what NVML counts.

Pure: GPUs and a string in, devices and sentences out. The rules are those of the CUDA programming
guide, "CUDA Environment Variables": indices or UUIDs (a unique beginning is enough) in the order in
which the program numbers them; the first entry that names nothing hides itself and all after it;
an entry that comes twice hides everything.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from runners.hardware.gpus import Gpu, GpuMemory, MigSlice


@dataclass(frozen=True)
class Accelerator:
    """A device as a job sees it: a whole GPU or one MIG slice. ``memory`` None: not told."""

    uuid: str
    name: str
    gpu_index: int
    memory: GpuMemory | None
    compute_capability: tuple[int, int] | None
    bf16: bool | None
    mig: bool


def visible_devices(
    gpus: Sequence[Gpu], setting: str | None, *, device_order: str | None = None
) -> tuple[tuple[Accelerator, ...], tuple[str, ...]]:
    """The devices in CUDA's numbering, and what a person should know about the choice.

    ``setting`` is the value of CUDA_VISIBLE_DEVICES, None when it is not set (an empty value hides
    all); ``device_order`` that of CUDA_DEVICE_ORDER.
    """
    notes: list[str] = []
    working = [gpu for gpu in gpus if not gpu.lost]
    if len({gpu.name for gpu in working}) > 1 and device_order != "PCI_BUS_ID":
        notes.append(
            "The GPUs differ, and CUDA numbers the fastest first, not as listed here: "
            "set CUDA_DEVICE_ORDER=PCI_BUS_ID for one numbering."
        )
    if setting is None:
        return _all_devices(working, notes), tuple(notes)
    entries = [entry.strip() for entry in setting.split(",")] if setting.strip() else []
    if not entries:
        if working:
            notes.append("CUDA_VISIBLE_DEVICES is empty, so jobs see no GPU.")
        return (), tuple(notes)
    chosen: list[Accelerator] = []
    for position, entry in enumerate(entries):
        device = _find(entry, gpus)
        if device is None:
            hidden = ", ".join(entries[position:])
            notes.append(
                f"CUDA_VISIBLE_DEVICES={setting}: “{entry}” names no usable GPU"
                f"{_why_not(entry, gpus)}; CUDA stops reading there and hides {hidden}."
            )
            break
        if any(device.uuid == other.uuid for other in chosen):
            notes.append(f"CUDA_VISIBLE_DEVICES={setting} names a GPU twice, so CUDA shows none.")
            return (), tuple(notes)
        chosen.append(device)
    slices = [device for device in chosen if device.mig]
    if slices and len(chosen) > 1:
        notes.append(
            "A CUDA program can use one MIG slice and nothing beside it: only "
            f"{slices[0].name} counts. Start one run a slice to use several."
        )
        return (slices[0],), tuple(notes)
    return tuple(chosen), tuple(notes)


def _all_devices(gpus: Sequence[Gpu], notes: list[str]) -> tuple[Accelerator, ...]:
    whole = tuple(whole_gpu(gpu) for gpu in gpus if not gpu.mig_enabled)
    slices = [(gpu, part) for gpu in gpus for part in gpu.mig]
    if not slices:
        return whole
    if whole:
        notes.append(
            "Some GPUs are cut into MIG slices, which a program cannot use beside whole GPUs: "
            "the slices are left out. Name one in CUDA_VISIBLE_DEVICES to use it."
        )
        return whole
    if len(slices) > 1:
        notes.append(
            f"There are {len(slices)} MIG slices and a CUDA program uses one, the first unless "
            "CUDA_VISIBLE_DEVICES names another."
        )
    return (mig_slice(*slices[0]),)


def whole_gpu(gpu: Gpu) -> Accelerator:
    """The device that a GPU without MIG is."""
    return Accelerator(
        uuid=gpu.uuid,
        name=gpu.name,
        gpu_index=gpu.index,
        memory=gpu.memory,
        compute_capability=gpu.compute_capability,
        bf16=gpu.bf16,
        mig=False,
    )


def mig_slice(gpu: Gpu, part: MigSlice) -> Accelerator:
    """The device that a slice of ``gpu`` is."""
    return Accelerator(
        uuid=part.uuid,
        name=part.name,
        gpu_index=gpu.index,
        memory=part.memory,
        compute_capability=gpu.compute_capability,
        bf16=gpu.bf16,
        mig=True,
    )


def _find(entry: str, gpus: Sequence[Gpu]) -> Accelerator | None:
    if entry.isascii() and entry.isdigit():
        matching = [gpu for gpu in gpus if gpu.index == int(entry) and not gpu.lost]
        return _first_device(matching[0]) if matching else None
    if entry.startswith("MIG-"):
        parts = [
            mig_slice(gpu, part) for gpu in gpus for part in gpu.mig if part.uuid.startswith(entry)
        ]
        return parts[0] if len(parts) == 1 else None
    if entry.startswith("GPU-"):
        named = [gpu for gpu in gpus if gpu.uuid.startswith(entry) and not gpu.lost]
        return _first_device(named[0]) if len(named) == 1 else None
    return None


def _first_device(gpu: Gpu) -> Accelerator | None:
    if not gpu.mig_enabled:
        return whole_gpu(gpu)
    return mig_slice(gpu, gpu.mig[0]) if gpu.mig else None


def _why_not(entry: str, gpus: Sequence[Gpu]) -> str:
    if entry == "-1":
        return ""
    if any(gpu.lost and entry == str(gpu.index) for gpu in gpus):
        return " (it does not answer)"
    uuids = [gpu.uuid for gpu in gpus] + [part.uuid for gpu in gpus for part in gpu.mig]
    if sum(uuid.startswith(entry) for uuid in uuids) > 1:
        return " (several begin so)"
    if not gpus:
        return " (there are none)"
    return f" (there are {len(gpus)}: 0 to {len(gpus) - 1})" if len(gpus) > 1 else " (only 0)"
