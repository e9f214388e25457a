"""Parts built once for a toolchain and used by every evaluation: crates, build caches, headers.

They live in a folder named after everything that went into them, so that another compiler or
another version of ours gets its own. Building happens inside a sandbox, under a lock, in a folder
that is renamed when it is whole; programs see the result read-only.
"""

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from runners.evaluate.languages.base import Bench, Language
from runners.evaluate.sandbox.halt import Halt, Halted
from runners.evaluate.toolfolders import tool_home

_LOOK_SECONDS = 0.1
_SOURCES = Path(__file__).parent / "languages"


def prepared(language: Language, bench: Bench, halt: Halt | None = None) -> Path:
    """The folder of parts for ``bench.toolchain``, built first if it is not there yet.

    Raises ``SandboxError`` with the toolchain's own words when the build fails, and ``Halted`` when
    the switch is thrown while another process builds.
    """
    home = tool_home() / "built"
    folder = home / f"{language.name}-{_key(language, bench)}"
    if folder.is_dir():
        return folder
    home.mkdir(parents=True, exist_ok=True)
    with (home / f".{language.name}.lock").open("w") as lock:
        _take(lock.fileno(), halt)
        if folder.is_dir():
            return folder
        draft = Path(tempfile.mkdtemp(prefix=f".{language.name}-", dir=home))
        try:
            draft.chmod(0o755)
            language.prepare(replace(bench, prepared=draft), draft)
            draft.rename(folder)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
    return folder


def _take(lock: int, halt: Halt | None) -> None:
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if halt is not None and halt.is_set:
                raise Halted from None
            time.sleep(_LOOK_SECONDS)


def _names(path: Path) -> list[str]:
    return [inside.name for inside in path.iterdir()] if path.is_dir() else []


def _key(language: Language, bench: Bench) -> str:
    """A digest of the toolchain and of our own files for the language."""
    toolchain = bench.toolchain
    digest = hashlib.sha256()
    told = [
        toolchain.version,
        dict(toolchain.programs),
        # With what lies in a folder, in which libraries and crates are called by their versions.
        [[str(m.source), m.target, sorted(_names(m.source))] for m in toolchain.mounts],
        dict(toolchain.environment),
        os.uname().machine,
    ]
    if bench.sandbox.name == "docker":
        # The image has compilers of its own, whatever they call themselves.
        told.append("docker")
    digest.update(json.dumps(told, sort_keys=True).encode())
    for path in sorted(_SOURCES.rglob(f"{language.name}*")):
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and "__pycache__" not in file.parts:
                digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
