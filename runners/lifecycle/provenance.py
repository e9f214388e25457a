"""Where a run's result came from: ``provenance.json``, gathered before the job starts.

Enough to tell later, byte for byte, whether a replay had the same inputs, code, packages and
machine; and nothing secret: of the environment only variables on a list are kept.
"""

import hashlib
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from runners.config import JobConfig
from runners.errors import MissingInputError
from runners.lifecycle.folders import RunFolder, StateFolder
from runners.lifecycle.hashing import ContentHash, FileHash, HashCache, Progress
from runners.lifecycle.inputs import TOKENIZER_FILES, Input, inputs_of

ALLOWED_ENVIRONMENT = re.compile(
    r"^(CUDA_VISIBLE_DEVICES|CUDA_DEVICE_ORDER|CUDA_LAUNCH_BLOCKING|CUBLAS_WORKSPACE_CONFIG"
    r"|NVIDIA_VISIBLE_DEVICES|DS_ACCELERATOR|OMP_NUM_THREADS|MKL_NUM_THREADS|PYTHONHASHSEED"
    r"|PYTORCH_CUDA_ALLOC_CONF|TORCH_[A-Z_]+|NCCL_[A-Z0-9_]+|ACCELERATE_[A-Z0-9_]+"
    r"|TOKENIZERS_PARALLELISM|HF_HOME|HF_HUB_OFFLINE|TRANSFORMERS_OFFLINE|LANG|LC_ALL|TZ"
    r"|SLURM_(JOB_ID|NNODES|NODEID|PROCID|NTASKS|JOB_NODELIST|GPUS[A-Z_]*))$"
)
"""What of the environment is kept: what changes results, and nothing that could be a secret."""

_CHANGES_NO_NUMBER = re.compile(
    r"^(SLURM_.*|HF_.*|LANG|LC_ALL|TZ|TRANSFORMERS_OFFLINE|ACCELERATE_.*)$"
)

_DIFF_LIMIT = 1 << 20
_UNTRACKED_LIMIT = 500


class InputRecord(msgspec.Struct, frozen=True, kw_only=True):
    """An input as it was before the run. ``files`` as in ``hashing.FileHash``."""

    role: str
    key: str
    path: str | None = None
    hub: str | None = None
    revision: str | None = None
    sha256: str | None = None
    bytes: int = 0
    files: list[FileHash] = []


class GitRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The working folder's repository: commit, uncommitted changes, files git does not know."""

    root: str
    commit: str | None = None
    branch: str | None = None
    dirty: bool = False
    diff: str = ""
    diff_sha256: str = ""
    diff_truncated: bool = False
    untracked: dict[str, str] = {}
    untracked_left_out: int = 0


class Provenance(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that may have made a difference. ``at`` is Unix seconds."""

    at: float
    config_hash: str
    command: list[str]
    cwd: str
    inputs: list[InputRecord]
    seeds: dict[str, int]
    determinism: dict[str, object]
    git: GitRecord | None
    code: dict[str, str]
    packages: dict[str, str]
    python: dict[str, str]
    system: dict[str, str]
    hardware: dict[str, object]
    environment: dict[str, str]

    @property
    def data_fingerprint(self) -> str:
        """Sixteen digits for the data the job read: the same data, wherever it lies, the same."""
        return fingerprint(self.inputs)


def fingerprint(inputs: list[InputRecord]) -> str:
    """Sixteen hexadecimal digits over the data inputs; "" when there are none."""
    data = [i for i in inputs if i.role in {"dataset", "benchmarks", "generations", "completions"}]
    if not data:
        return ""
    text = "\n".join(f"{i.role} {i.sha256}" for i in data)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def config_hash(config: JobConfig) -> str:
    """SHA-256 of the resolved config, keys in order."""
    return hashlib.sha256(canonical(config.model_dump(mode="json"))).hexdigest()


def canonical(value: object) -> bytes:
    """JSON with sorted keys, for hashing."""
    return msgspec.json.encode(value, order="deterministic")


def gather(
    config: JobConfig,
    command: list[str],
    *,
    cache: HashCache,
    cwd: Path,
    environ: Mapping[str, str],
    hardware: Mapping[str, object],
    clock: Callable[[], float] = time.time,
    on_progress: Progress | None = None,
) -> Provenance:
    """Gather it. Raises ``MissingInputError`` when an input is not there or cannot be read."""
    plain = config.model_dump(mode="json")
    return Provenance(
        at=clock(),
        config_hash=config_hash(config),
        command=command,
        cwd=str(cwd),
        inputs=hash_inputs(inputs_of(config), cache, on_progress),
        seeds={k: v for k, v in plain.items() if k.endswith("seed") and isinstance(v, int)},
        determinism={k: plain[k] for k in ("deterministic", "do_sample") if k in plain},
        git=read_git(cwd),
        code=read_code(),
        packages=read_packages(),
        python={
            "version": platform.python_version(),
            "implementation": platform.python_implementation(),
            "executable": sys.executable,
        },
        system={
            "system": platform.system(),
            "release": platform.release(),
            "machine": platform.machine(),
            "host": platform.node(),
            "libc": " ".join(platform.libc_ver()),
        },
        hardware=dict(hardware),
        environment={k: v for k, v in environ.items() if ALLOWED_ENVIRONMENT.match(k)},
    )


def numeric_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that may change a number: how many threads, which devices, which kernels."""
    return {
        name: value
        for name, value in environ.items()
        if ALLOWED_ENVIRONMENT.match(name) and not _CHANGES_NO_NUMBER.match(name)
    }


def hash_inputs(
    inputs: list[Input], cache: HashCache, on_progress: Progress | None = None
) -> list[InputRecord]:
    """Hash every local input; a model's tokenizer files get a record of their own as well."""
    records = []
    for item in inputs:
        if item.path is None:
            revision = hub_revision(str(item.hub))
            records.append(
                InputRecord(role=item.role, key=item.key, hub=item.hub, revision=revision)
            )
            continue
        content = _hash(item, cache, on_progress)
        records.append(_record(item, content))
        tokenizer = [f for f in content.files if f.path in TOKENIZER_FILES]
        if item.role == "model" and tokenizer:
            whole = hashlib.sha256()
            for file in tokenizer:
                whole.update(f"{file.path}\0{file.sha256}\n".encode())
            size = sum(file.bytes for file in tokenizer)
            records.append(
                InputRecord(
                    role="tokenizer",
                    key=item.key,
                    path=str(item.path),
                    sha256=whole.hexdigest(),
                    bytes=size,
                    files=tokenizer,
                )
            )
    return records


def _hash(item: Input, cache: HashCache, on_progress: Progress | None) -> ContentHash:
    assert item.path is not None
    try:
        return cache.hash_path(item.path, on_progress)
    except OSError as error:
        raise MissingInputError(
            f"{item.key} cannot be read ({error.strerror})", where=str(error.filename or item.path)
        ) from error


def _record(item: Input, content: ContentHash) -> InputRecord:
    return InputRecord(
        role=item.role,
        key=item.key,
        path=str(item.path),
        sha256=content.sha256,
        bytes=content.bytes,
        files=list(content.files),
    )


def changed_inputs(folder: RunFolder, state: StateFolder) -> list[str] | None:
    """Paths of the inputs that are not what they were before the run; None without a record.

    Only files whose size, time or inode changed are read again. Raises ``OSError``.
    """
    provenance = read_provenance(folder.provenance)
    if provenance is None:
        return None
    cache = HashCache(state.hashes)
    changed = []
    for record in provenance.inputs:
        if record.path is None or record.role == "tokenizer":
            continue
        path = Path(record.path)
        if not path.exists() or cache.hash_path(path).sha256 != record.sha256:
            changed.append(record.path)
    return changed


def read_provenance(path: Path) -> Provenance | None:
    """What was gathered; None when there is none, or it is damaged."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Provenance)
    except (OSError, msgspec.DecodeError):
        return None


def hub_revision(name: str, cache: Path | None = None) -> str | None:
    """The commit of the hub repository ``name`` that the local cache holds as main, or None."""
    root = cache or Path(
        os.environ.get("HF_HUB_CACHE")
        or Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser() / "hub"
    )
    ref = root / f"models--{name.replace('/', '--')}" / "refs" / "main"
    try:
        return ref.read_text().strip() or None
    except OSError:
        return None


def read_packages() -> dict[str, str]:
    """Every installed distribution and its version, by name in lower case."""
    found = {}
    for distribution in importlib.metadata.distributions():
        name = distribution.metadata["Name"]
        if name:
            found[name.lower()] = distribution.version
    return dict(sorted(found.items()))


def read_code() -> dict[str, str]:
    """SHA-256 over this program's own sources, which an editable installation may change."""
    root = Path(__file__).resolve().parents[2]
    whole = hashlib.sha256()
    for package in ("runners", "db"):
        for file in sorted((root / package).rglob("*.py")):
            digest = hashlib.sha256(file.read_bytes()).hexdigest()
            whole.update(f"{file.relative_to(root).as_posix()}\0{digest}\n".encode())
    return {"sources_sha256": whole.hexdigest()}


def read_git(folder: Path) -> GitRecord | None:
    """The state of the repository around ``folder``; None when it is in none, or without git."""
    root = _git(folder, "rev-parse", "--show-toplevel")
    if root is None:
        return None
    top = Path(root.decode().strip())
    diff = _git(top, "diff", "HEAD", "--no-ext-diff", "--binary") or b""
    listing = _git(top, "ls-files", "--others", "--exclude-standard", "-z") or b""
    names = [os.fsdecode(name) for name in listing.split(b"\0") if name]
    commit = _git(top, "rev-parse", "--verify", "HEAD")
    branch = _git(top, "rev-parse", "--abbrev-ref", "HEAD")
    return GitRecord(
        root=str(top),
        commit=commit.decode().strip() if commit else None,
        branch=branch.decode().strip() if branch else None,
        dirty=bool(diff or names),
        diff=diff[:_DIFF_LIMIT].decode(errors="replace"),
        diff_sha256=hashlib.sha256(diff).hexdigest(),
        diff_truncated=len(diff) > _DIFF_LIMIT,
        untracked=_untracked_hashes(top, names[:_UNTRACKED_LIMIT]),
        untracked_left_out=max(0, len(names) - _UNTRACKED_LIMIT),
    )


def _untracked_hashes(root: Path, names: list[str]) -> dict[str, str]:
    hashes = {}
    for name in names:
        path = root / name
        # A data set that lies untracked in the folder is an input, and hashed as such.
        if path.is_file() and path.stat().st_size <= 10 * _DIFF_LIMIT:
            hashes[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return hashes


def _git(folder: Path, *arguments: str) -> bytes | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=20,
            check=False,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
