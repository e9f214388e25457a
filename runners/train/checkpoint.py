"""Checkpoints: all that the rest of a run depends on, in a folder that is whole or not there.

A checkpoint is written beside its place and renamed into it, so a kill at any moment leaves at most
a ``.part`` folder that nobody takes for one. Tensors are stored whole and by parameter name; only
the random states belong to ranks. So it can be resumed by any number of ranks, with or without
DeepSpeed.
"""

import json
import os
import random
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from runners.errors import MissingInputError, UsageError

_FOLDER = re.compile(r"step-(\d{8})")
_SHARD_BYTES = 2 << 30
_BEST = "best.json"
_FORMAT = 1


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint on disk."""

    folder: Path

    @property
    def step(self) -> int:
        """Optimizer steps done when it was written."""
        match = _FOLDER.fullmatch(self.folder.name)
        return int(match[1]) if match else int(self.state()["position"]["step"])

    def state(self) -> dict[str, Any]:
        """The JSON part. Raises ``MissingInputError`` when the folder holds no whole checkpoint."""
        path = self.folder / "state.json"
        try:
            state = json.loads(path.read_bytes())
        except (OSError, ValueError) as error:
            raise MissingInputError(
                "this is no whole checkpoint",
                where=str(path),
                fix="Name a folder such as …/checkpoints/step-00000500 that a run wrote.",
            ) from error
        if state.get("format") != _FORMAT:
            raise UsageError(
                f"this checkpoint has format {state.get('format')}, not {_FORMAT}", where=str(path)
            )
        return dict(state)

    def tensors(self) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """Each trained parameter's name with its weight and moments."""
        for path in sorted(self.folder.glob("tensors-*.safetensors")):
            with safe_open(path, framework="pt") as file:
                found: dict[str, dict[str, Tensor]] = {}
                for key in file.keys():  # noqa: SIM118 - safe_open is no mapping
                    kind, _, name = key.partition("/")
                    found.setdefault(name, {})[kind] = file.get_tensor(key)
            yield from found.items()

    def random_state(self, rank: int) -> "RandomState | None":
        """The random state of ``rank``; None when the run had fewer ranks."""
        path = self.folder / f"rank-{rank}.safetensors"
        return RandomState.load(path) if path.is_file() else None


@dataclass(frozen=True)
class RandomState:
    """The states of every random generator that a rank uses."""

    torch_cpu: Tensor
    torch_device: Tensor | None
    python: str
    numpy: str

    @classmethod
    def now(cls, device: torch.device) -> "RandomState":
        """As they are."""
        cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        name, keys, at, has_gauss, gauss = np.random.get_state()
        legacy = [name, np.asarray(keys).tolist(), at, has_gauss, gauss]
        return cls(torch.get_rng_state(), cuda, json.dumps(random.getstate()), json.dumps(legacy))

    def set(self, device: torch.device) -> None:
        """Put them back."""
        torch.set_rng_state(self.torch_cpu)
        if self.torch_device is not None and device.type == "cuda":
            torch.cuda.set_rng_state(self.torch_device, device)
        version, internal, gauss = json.loads(self.python)
        random.setstate((version, tuple(internal), gauss))
        name, keys, at, has_gauss, spare = json.loads(self.numpy)
        np.random.set_state((name, np.array(keys, np.uint32), at, has_gauss, spare))

    def save(self, path: Path) -> None:
        """Write to a safetensors file."""
        tensors = {"torch_cpu": self.torch_cpu}
        if self.torch_device is not None:
            tensors["torch_device"] = self.torch_device
        save_file(tensors, path, metadata={"python": self.python, "numpy": self.numpy})

    @classmethod
    def load(cls, path: Path) -> "RandomState":
        """Read what ``save`` wrote."""
        tensors = load_file(path)
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
        return cls(
            tensors["torch_cpu"],
            tensors.get("torch_device"),
            metadata["python"],
            metadata["numpy"],
        )


@dataclass(frozen=True)
class CheckpointFolder:
    """The checkpoints of a run. ``keep`` is how many are kept besides the best; None keeps all."""

    root: Path
    keep: int | None

    def all(self) -> list[Checkpoint]:
        """Whole checkpoints, oldest first."""
        if not self.root.is_dir():
            return []
        found = (p for p in self.root.iterdir() if _FOLDER.fullmatch(p.name))
        return [Checkpoint(path) for path in sorted(found) if (path / "state.json").is_file()]

    def newest(self) -> Checkpoint | None:
        """The latest whole one."""
        return next(reversed(self.all()), None)

    def best(self) -> Checkpoint | None:
        """The one with the best validation loss so far, if it is still there."""
        try:
            name = json.loads((self.root / _BEST).read_bytes())["checkpoint"]
        except (OSError, ValueError, KeyError):
            return None
        folder = self.root / str(name)
        return Checkpoint(folder) if (folder / "state.json").is_file() else None

    def write(
        self,
        step: int,
        tensors: Iterable[tuple[str, dict[str, Tensor]]],
        random_state: RandomState,
        state: dict[str, Any],
        *,
        rank: int,
        wait: Callable[[], None],
        best: bool = False,
    ) -> Checkpoint:
        """Write the checkpoint of ``step``; every rank calls this, ``wait`` is their barrier.

        Raises ``OSError`` when the disk is full; the part written so far is removed.
        """
        place = self.root / f"step-{step:08d}"
        part = self.root / f".{place.name}.part"
        if rank == 0:
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
        wait()
        random_state.save(part / f"rank-{rank}.safetensors")
        _write_tensors(tensors, part if rank == 0 else None)
        wait()
        if rank == 0:
            _write_durably(part / "state.json", {"format": _FORMAT, **state})
            _sync(part)
            if place.exists():
                shutil.rmtree(place)
            part.rename(place)
            _sync(self.root)
            if best:
                _write_durably(self.root / _BEST, {"checkpoint": place.name})
            self._prune()
        wait()
        return Checkpoint(place)

    def _prune(self) -> None:
        for leftover in self.root.glob(".step-*.part"):
            shutil.rmtree(leftover, ignore_errors=True)
        best = self.best()
        others = [c for c in self.all() if best is None or c.folder != best.folder]
        for old in others[: -self.keep] if self.keep is not None else []:
            # Renamed first, so that a kill half-way leaves no damaged checkpoint behind.
            gone = old.folder.rename(self.root / f".{old.folder.name}.part")
            shutil.rmtree(gone, ignore_errors=True)


def _write_tensors(tensors: Iterable[tuple[str, dict[str, Tensor]]], folder: Path | None) -> None:
    """Write the stream in shards; without a folder only go through it, as a gathering rank must."""
    shard: dict[str, Tensor] = {}
    size = number = 0
    for name, found in tensors:
        if folder is None:
            continue
        for kind, tensor in found.items():
            # A copy: saved tensors must not share memory, as tied or sliced ones would.
            shard[f"{kind}/{name}"] = tensor.clone().contiguous()
            size += tensor.nbytes
        if size >= _SHARD_BYTES:
            _save_shard(shard, folder, number)
            shard, size, number = {}, 0, number + 1
    if folder is not None and shard:
        _save_shard(shard, folder, number)


def _save_shard(shard: dict[str, Tensor], folder: Path, number: int) -> None:
    path = folder / f"tensors-{number:05d}.safetensors"
    save_file(shard, path)
    _sync(path)


def _write_durably(path: Path, value: object) -> None:
    draft = path.with_name(f".{path.name}.part")
    with draft.open("w") as file:
        json.dump(value, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
