"""The loss mask as a file of bits: an eighth of a byte for a token instead of a whole one."""

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class MaskBits:
    """``length`` bits over mapped bytes, most significant first; slices are fresh bool arrays."""

    packed: npt.NDArray[np.uint8]
    length: int

    @classmethod
    def open(cls, path: Path, length: int) -> "MaskBits":
        """Map the bits that a ``MaskWriter`` wrote."""
        return cls(np.memmap(path, np.uint8, mode="r", shape=((length + 7) // 8,)), length)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, part: slice) -> npt.NDArray[np.bool_]:
        start, stop, step = part.indices(self.length)
        if step != 1:
            raise ValueError("mask bits are read in whole ranges")
        first = start // 8
        bits = np.unpackbits(self.packed[first : (max(stop, start) + 7) // 8])
        return bits[start - first * 8 : max(stop, start) - first * 8].view(np.bool_)


class MaskWriter:
    """Appends bool arrays of any length to a file of bits."""

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = path.open("wb")
        self._rest = np.zeros(0, bool)

    def append(self, mask: npt.NDArray[np.bool_]) -> None:
        """Write all whole bytes; up to seven bits wait for the next array."""
        bits = np.concatenate([self._rest, mask])
        whole = len(bits) // 8 * 8
        self._file.write(np.packbits(bits[:whole]).tobytes())
        self._rest = bits[whole:]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.write(np.packbits(self._rest).tobytes())
        self._file.close()
