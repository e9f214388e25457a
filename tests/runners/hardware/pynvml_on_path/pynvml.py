"""A test double that a program in another process finds in place of pynvml; see fake_nvml.py."""

import importlib.util
import os
import sys
from pathlib import Path

_spec = importlib.util.spec_from_file_location(
    "mft_fake_nvml", Path(__file__).resolve().parent.parent / "fake_nvml.py"
)
assert _spec is not None
assert _spec.loader is not None
_fake = importlib.util.module_from_spec(_spec)
sys.modules[_spec.name] = _fake  # dataclasses look their module up
_spec.loader.exec_module(_fake)
_machine = _fake.MACHINES[os.environ["MFT_FAKE_NVML"]]()


def __getattr__(name: str) -> object:
    return getattr(_machine, name)
