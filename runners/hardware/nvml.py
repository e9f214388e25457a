"""The few NVML calls we make, and how an answer that makes no sense is kept from doing harm.

Separate because everything odd about GPU drivers ends here. NVML is NVIDIA's management library;
``pynvml`` (the package nvidia-ml-py) is its binding, imported only when somebody asks for GPUs.
Whoever passes an object with the same functions, a test for instance, needs no driver.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

Handle = Any
T = TypeVar("T")


class Nvml(Protocol):
    """What we use of the module ``pynvml``; bytes, watts and so on are in NVML's own units."""

    NVMLError: type[Exception]
    NVML_TEMPERATURE_GPU: int
    NVML_NVLINK_MAX_LINKS: int

    def nvmlInit(self) -> None: ...  # noqa: N802 - NVML's names
    def nvmlShutdown(self) -> None: ...  # noqa: N802
    def nvmlSystemGetDriverVersion(self) -> str: ...  # noqa: N802
    def nvmlSystemGetCudaDriverVersion_v2(self) -> int: ...  # noqa: N802
    def nvmlDeviceGetCount(self) -> int: ...  # noqa: N802
    def nvmlDeviceGetHandleByIndex(self, index: int) -> Handle: ...  # noqa: N802
    def nvmlDeviceGetName(self, handle: Handle) -> str: ...  # noqa: N802
    def nvmlDeviceGetUUID(self, handle: Handle) -> str: ...  # noqa: N802
    def nvmlDeviceGetMemoryInfo(self, handle: Handle) -> Any: ...  # noqa: N802
    def nvmlDeviceGetUtilizationRates(self, handle: Handle) -> Any: ...  # noqa: N802
    def nvmlDeviceGetTemperature(self, handle: Handle, sensor: int) -> int: ...  # noqa: N802
    def nvmlDeviceGetPowerUsage(self, handle: Handle) -> int: ...  # noqa: N802
    def nvmlDeviceGetEnforcedPowerLimit(self, handle: Handle) -> int: ...  # noqa: N802
    def nvmlDeviceGetCudaComputeCapability(self, handle: Handle) -> Any: ...  # noqa: N802
    def nvmlDeviceGetComputeRunningProcesses(self, handle: Handle) -> list[Any]: ...  # noqa: N802
    def nvmlDeviceGetMigMode(self, handle: Handle) -> Any: ...  # noqa: N802
    def nvmlDeviceGetMaxMigDeviceCount(self, handle: Handle) -> int: ...  # noqa: N802
    def nvmlDeviceGetMigDeviceHandleByIndex(  # noqa: N802
        self, handle: Handle, index: int
    ) -> Handle: ...
    def nvmlDeviceGetNvLinkState(self, handle: Handle, link: int) -> int: ...  # noqa: N802


def load_nvml() -> Nvml | None:
    """The real binding, or None where nvidia-ml-py is not installed."""
    try:
        module: Nvml = importlib.import_module("pynvml")
    except ImportError:
        return None
    return module


@dataclass
class Questions:
    """Asks NVML things, turning refusals and nonsense into None and a sentence for the person.

    ``notes`` collects those sentences, each once. A plain "not supported" is silent: many cards
    have no power sensor or no NVLink, and nothing is wrong with them.
    """

    nvml: Nvml
    notes: list[str] = field(default_factory=list)

    def ask(
        self,
        about: str,
        call: Callable[[], T],
        *,
        sane: Callable[[T], bool] = lambda _: True,
    ) -> T | None:
        """The answer of ``call`` if it comes and is ``sane``, else None."""
        try:
            answer = call()
        except self.nvml.NVMLError as error:
            if not is_unsupported(error):
                self.note(f"{about}: the driver answered “{error}”.")
            return None
        except (AttributeError, OSError, TypeError, ValueError) as error:
            # The binding itself trips when library and driver are of different ages.
            self.note(f"{about}: the driver's answer cannot be read ({error}).")
            return None
        try:
            believable = sane(answer)
        except (AttributeError, TypeError):
            believable = False
        if not believable:
            self.note(f"{about}: the driver answered {_shown(answer)}, which cannot be; ignored.")
            return None
        return answer

    def note(self, text: str) -> None:
        """Keep a sentence, once."""
        if text not in self.notes:
            self.notes.append(text)


NOT_SUPPORTED, FUNCTION_NOT_FOUND, NOT_FOUND, GPU_IS_LOST = 3, 13, 6, 15
_SILENT = {NOT_SUPPORTED, FUNCTION_NOT_FOUND, NOT_FOUND}


def is_unsupported(error: Exception) -> bool:
    """True when the card or the driver's version simply has no such thing."""
    return getattr(error, "value", None) in _SILENT


def is_lost(error: Exception) -> bool:
    """True when the GPU has fallen off the bus."""
    return getattr(error, "value", None) == GPU_IS_LOST


def _shown(answer: object) -> str:
    names = [field[0] for field in getattr(answer, "_fields_", ())] or list(
        getattr(answer, "__dict__", ())
    )
    if names:  # a ctypes structure prints as an address
        return ", ".join(f"{name}={getattr(answer, name)}" for name in names)
    return repr(answer)
