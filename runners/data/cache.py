"""The token cache: every sample's ids and mask, tokenized once, mapped into memory by every rank.

A cache is a folder named by the hash of all that went into it: the data, the tokenizer, the
template, the system prompt. It is built in a folder of another name and renamed when it is whole,
under a lock, so that a killed build leaves nothing that is taken for complete and two builds at
once do the work once. Sequence length is not part of it: what becomes of over-long samples is
decided when it is opened.
"""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from runners.config import TrainConfig
from runners.data.building import OnProgress, build
from runners.data.chatml import TEMPLATE
from runners.data.overlong import fit_samples
from runners.data.sources import TaskFolder, find_tasks
from runners.data.token_cache import LAYOUT, TokenCache, is_complete, open_cache
from runners.data.tokenizer import load_tokenizer
from runners.data.workers import available_cores
from runners.lifecycle.folders import StateFolder

__all__ = ["TokenCache", "build_cache", "cache_key"]


def build_cache(
    config: TrainConfig,
    tokenizer_path: Path,
    *,
    on_progress: OnProgress = lambda *_: None,
) -> TokenCache:
    """The cache for a config's data, made if it is not there yet, its samples fitted to length.

    Every rank may call this: one builds, the others wait and use what it built.

    Raises ``MissingInputError`` (no data, no tokenizer), ``JobFailedError`` (a bad record, named
    by file and line; a sample too long under ``overlong=error``).
    """
    tasks = find_tasks(config.data_paths)
    tokenizer = load_tokenizer(tokenizer_path)
    key = cache_key(tasks, tokenizer.digest, config.system_prompt, on_progress)
    root = config.cache_dir or StateFolder.default().root / "cache" / "tokens"
    root.mkdir(parents=True, exist_ok=True)
    folder = root / key[:32]
    if not is_complete(folder, key):
        with _lock(root / f"{key[:32]}.lock", on_progress):
            if not is_complete(folder, key):
                unfinished = root / f"{key[:32]}.building"
                for leftover in (unfinished, folder):
                    shutil.rmtree(leftover, ignore_errors=True)
                unfinished.mkdir()
                build(
                    unfinished,
                    key,
                    tasks,
                    tokenizer,
                    config.system_prompt,
                    config.num_workers or available_cores(),
                    on_progress,
                )
                _put_on_disk(unfinished)
                unfinished.rename(folder)
    # Joined texts are cut to rows later, and no token is lost by it.
    limit = None if config.padding_mode == "concat" else config.seq_length
    return fit_samples(open_cache(folder), config.overlong, limit)


def _put_on_disk(folder: Path) -> None:
    """After a power failure, too, a folder of the final name must be whole."""
    for path in [*folder.iterdir(), folder]:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def cache_key(
    tasks: list[TaskFolder],
    tokenizer_digest: str,
    system_prompt: str | None,
    on_progress: OnProgress = lambda *_: None,
) -> str:
    """SHA-256 over the layout, template, tokenizer, system prompt, and each file's content."""
    whole = hashlib.sha256()
    total = sum(task.size for task in tasks)
    done = 0
    files: list[tuple[str, str, str]] = []
    for task in tasks:
        for file in task.files:
            with file.path.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            files.append((task.name, file.path.name, digest))
            done += file.size
            on_progress("hash data", done, total, "bytes")
    parts: list[Any] = [LAYOUT, TEMPLATE, tokenizer_digest, system_prompt, files]
    whole.update(json.dumps(parts).encode())
    return whole.hexdigest()


@contextmanager
def _lock(path: Path, on_progress: OnProgress) -> Iterator[None]:
    """Hold the file's lock; the kernel lets go of it when its holder dies, however it dies."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_progress("wait for another build of the same data", 0, None, "")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
