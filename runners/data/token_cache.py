"""A built token cache as it lies on disk, and as the rest of the program sees it.

Opening one maps it into memory: ranks on a machine share the pages, and a rank holds only the
per-sample arrays (some 28 bytes a sample).
"""

from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from runners.data.maskbits import MaskBits
from runners.data.sources import ByteRange, find_tasks, read_lines
from runners.errors import MissingInputError

LAYOUT = 1
"""Version of the files below; part of the key, so another layout is another cache."""


class CacheMeta(msgspec.Struct, frozen=True):
    """meta.json: what the arrays hold and what they were made from."""

    layout: int
    key: str
    tasks: tuple[str, ...]
    samples: int
    tokens: int
    fast: bool
    files: tuple[tuple[str, int], ...]
    """Each file's path and the number of the first sample from it."""


Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class OverlongCounts:
    """Records of each task that did not fit, and what became of them; int64 [tasks] each.

    ``untrained`` are records left out because nothing in them is trained any more: no trained
    token lies in the part that fits.
    """

    longer: Counts
    truncated: Counts
    dropped: Counts
    split: Counts
    untrained: Counts

    @classmethod
    def none(cls, tasks: int) -> "OverlongCounts":
        """No sample touched."""
        zeros = np.zeros(tasks, np.int64)
        return cls(zeros, zeros, zeros, zeros, zeros)


@dataclass(frozen=True)
class TokenCache:
    """Samples as they are trained.

    ``ids`` int32 memmap of all tokens; sample i is ``ids[offsets[i] : offsets[i] + lengths[i]]``.
    ``trained_mask`` has a bit for each of ``ids``, true where the token is trained as a target.
    ``offsets`` int64 [n+1]; ``lengths``, ``trained_counts`` and ``task_ids`` int32 [n];
    ``origins`` int64 [n], the record a sample was made from (a split record makes several).
    ``fingerprint`` names data, tokenizer, template and options by hash.
    """

    folder: Path
    ids: npt.NDArray[np.int32]
    trained_mask: MaskBits
    offsets: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int32]
    trained_counts: npt.NDArray[np.int32]
    task_ids: npt.NDArray[np.int32]
    origins: npt.NDArray[np.int64]
    tasks: tuple[str, ...]
    fingerprint: str
    overlong: OverlongCounts

    def __len__(self) -> int:
        return len(self.lengths)

    def sample(self, index: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_]]:
        """The ids and the mask of a sample; its first token is never trained."""
        start = int(self.offsets[index])
        stop = start + int(self.lengths[index])
        mask = self.trained_mask[start:stop]
        mask[:1] = False
        return self.ids[start:stop], mask


def is_complete(folder: Path, key: str) -> bool:
    """True if ``folder`` holds the whole cache of ``key``."""
    try:
        meta = msgspec.json.decode((folder / "meta.json").read_bytes(), type=CacheMeta)
        sizes = [(folder / name).stat().st_size for name in ("ids.bin", "mask.bin")]
    except (OSError, msgspec.DecodeError):
        return False
    return meta.key == key and sizes == [meta.tokens * 4, (meta.tokens + 7) // 8]


def open_cache(folder: Path) -> TokenCache:
    """Map a complete cache as it was built, no sample cut or left out."""
    meta = msgspec.json.decode((folder / "meta.json").read_bytes(), type=CacheMeta)
    lengths = np.load(folder / "lengths.npy")
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return TokenCache(
        folder=folder,
        ids=np.memmap(folder / "ids.bin", np.int32, mode="r", shape=(meta.tokens,)),
        trained_mask=MaskBits.open(folder / "mask.bin", meta.tokens),
        offsets=offsets,
        lengths=lengths,
        trained_counts=np.load(folder / "trained_counts.npy"),
        task_ids=np.load(folder / "task_ids.npy"),
        origins=np.arange(len(lengths), dtype=np.int64),
        tasks=meta.tasks,
        fingerprint=meta.key,
        overlong=OverlongCounts.none(len(meta.tasks)),
    )


def place_of_sample(cache: TokenCache, record: int) -> str:
    """``file:line`` of the record a sample was made from; the file alone if it is elsewhere now.

    A cache is found by its data's content, so the data may have been moved since it was built.
    """
    meta = msgspec.json.decode((cache.folder / "meta.json").read_bytes(), type=CacheMeta)
    path, first = next((p, f) for p, f in reversed(meta.files) if f <= record)
    try:
        tasks = find_tasks([Path(path).parent])
    except MissingInputError:
        return path
    for file in (file for task in tasks for file in task.files):
        if file.path == Path(path):
            seen = first - 1
            for number, line in enumerate(read_lines(ByteRange(file)), 1):
                seen += bool(line.strip())
                if seen == record:
                    return f"{path}:{number}"
    return path
