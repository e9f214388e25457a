"""Replaying a run: what would be the same, and how to run it again in a record of its own.

A run that belongs to a pipeline is replayed with it: the runs it came from, itself, and those that
go on from it, in order. What one replayed run makes is the input of the next, so the configs are
rewritten to lead from replay to replay; everything else is held against what provenance recorded.
"""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from runners.config import KINDS, JobConfig
from runners.errors import MissingInputError, RefusedError, UsageError
from runners.lifecycle.folders import RunFolder, StateFolder
from runners.lifecycle.hashing import HashCache
from runners.lifecycle.launchfile import read_launch
from runners.lifecycle.provenance import (
    InputRecord,
    Provenance,
    config_hash,
    hub_revision,
    numeric_environment,
    read_code,
    read_packages,
    read_provenance,
)
from runners.lifecycle.rewritten import Moved, moved_to

if TYPE_CHECKING:
    from db import RunRecord, Store

Standing = Literal["identical", "drifted", "missing", "replayed", "unknown"]

INPUT_ROLES = frozenset(
    {
        "dataset",
        "model",
        "tokenizer",
        "adapter",
        "checkpoint",
        "benchmarks",
        "generations",
        "completions",
    }
)
"""What ``--allow-drift`` may name: inputs. Anything else that drifts lowers the grade only."""

_PACKAGES = (
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "deepspeed",
    "bitsandbytes",
    "tokenizers",
    "tiktoken",
    "safetensors",
    "numpy",
)
"""The packages whose versions may change a number."""

_OUTPUT_KEYS = ("output_dir", "output", "tb_dir")


@dataclass(frozen=True)
class PlanItem:
    """One thing a run depended on, and how it stands today. ``role`` as in ``--allow-drift``."""

    run_id: str
    role: str
    name: str
    standing: Standing
    detail: str = ""


@dataclass(frozen=True)
class Plan:
    """What a replay would do. Grade A: the same bytes are expected; B: the same inputs and
    settings on other software or hardware; C: other inputs, or inputs nobody can vouch for."""

    runs: "tuple[RunRecord, ...]"
    items: tuple[PlanItem, ...]
    grade: Literal["A", "B", "C"]

    def of(self, *standings: Standing) -> list[PlanItem]:
        """The items that stand so."""
        return [item for item in self.items if item.standing in standings]


def make_plan(store: "Store", state: StateFolder, run_id: str, hardware: Mapping[str, Any]) -> Plan:
    """Look at everything the run and its pipeline depended on. Changes nothing.

    Raises ``db.RunNotFoundError``, or ``UsageError`` for a run that has not ended.
    """
    runs = pipeline(store, store.get_run(run_id))
    cache = HashCache(state.hashes)
    outputs = [folder for run in runs for folder in output_folders(run)]
    items = [item for run in runs for item in _items(run, outputs, cache, hardware)]
    return Plan(tuple(runs), tuple(items), _grade(items))


def pipeline(store: "Store", run: "RunRecord") -> "list[RunRecord]":
    """The runs that ``run`` came from, itself, and the finished ones that go on from it."""
    if run.status in {"queued", "running", "stopping"}:
        raise UsageError(f"the run is still {run.status}", where=run.id, fix="Wait for its end.")
    return [*_ancestors(store, run), run, *_descendants(store, run)]


def _ancestors(store: "Store", run: "RunRecord") -> "list[RunRecord]":
    """The runs it came from, first to last; those that this store has, as a run may have been
    imported without them."""
    from db import RunNotFoundError

    found: list[RunRecord] = []
    while run.parent_id is not None:
        try:
            run = store.get_run(run.parent_id)
        except RunNotFoundError:
            break
        found.insert(0, run)
    return found


def _descendants(store: "Store", run: "RunRecord") -> "Iterator[RunRecord]":
    for child in store.children(run.id):
        if child.status == "finished" and child.replay_of is None:
            yield child
            yield from _descendants(store, child)


def output_folders(run: "RunRecord") -> list[Path]:
    """Where a run wrote: its folder, and what its config names."""
    config = json.loads(run.config)
    cwd = _cwd(run)
    named = [config.get(key) for key in _OUTPUT_KEYS]
    return [Path(run.folder), *(cwd / value for value in named if value)]


def _cwd(run: "RunRecord") -> Path:
    provenance = read_provenance(RunFolder(Path(run.folder)).provenance)
    return Path(provenance.cwd) if provenance else Path.cwd()


def _items(
    run: "RunRecord", outputs: list[Path], cache: HashCache, hardware: Mapping[str, Any]
) -> Iterator[PlanItem]:
    folder = RunFolder(Path(run.folder))
    provenance = read_provenance(folder.provenance)
    if provenance is None:
        yield PlanItem(run.id, "provenance", str(folder.provenance), "unknown", "not there")
        return
    config = config_of(run)
    same = config_hash(config) == provenance.config_hash
    yield PlanItem(run.id, "config", "settings", "identical" if same else "drifted")
    for record in provenance.inputs:
        yield _input_item(run, record, outputs, cache)
    yield from _software_items(run, provenance)
    yield from _machine_items(run, config, provenance, hardware)


def _input_item(
    run: "RunRecord", record: InputRecord, outputs: list[Path], cache: HashCache
) -> PlanItem:
    name = record.path or str(record.hub)
    if record.path is None:
        now = hub_revision(str(record.hub))
        if record.revision is None or now is None:
            return PlanItem(run.id, record.role, name, "unknown", "a hub name without a revision")
        same = now == record.revision
        return PlanItem(run.id, record.role, name, "identical" if same else "drifted")
    path = Path(record.path)
    if any(path.is_relative_to(output) for output in outputs):
        return PlanItem(run.id, record.role, name, "replayed", "made by a run before it")
    if not path.exists():
        return PlanItem(run.id, record.role, name, "missing")
    now_files = {f.path: f.sha256 for f in cache.hash_path(path).files}
    before = {f.path: f.sha256 for f in record.files}
    if record.role == "tokenizer":
        now_files = {name: digest for name, digest in now_files.items() if name in before}
    if now_files == before:
        return PlanItem(run.id, record.role, name, "identical")
    changed = sorted(f for f in before.keys() | now_files if before.get(f) != now_files.get(f))
    shown = ", ".join(str(path / f) if f else name for f in changed[:5])
    return PlanItem(run.id, record.role, name, "drifted", f"changed: {shown}")


def _software_items(run: "RunRecord", provenance: Provenance) -> Iterator[PlanItem]:
    import platform

    now = {**read_packages(), "python": platform.python_version()}
    before = {**provenance.packages, "python": provenance.python.get("version", "")}
    changed = [
        f"{name} {before.get(name, 'none')} to {now.get(name, 'none')}"
        for name in ("python", *_PACKAGES)
        if before.get(name) != now.get(name)
    ]
    yield PlanItem(
        run.id, "packages", "versions", "drifted" if changed else "identical", ", ".join(changed)
    )
    same = read_code() == provenance.code
    yield PlanItem(run.id, "code", "this program", "identical" if same else "drifted")
    environ = numeric_environment({**os.environ, **_added_environment(run)})
    told = _changes(numeric_environment(provenance.environment), environ)
    yield PlanItem(
        run.id, "environment", "variables", "drifted" if told else "identical", "; ".join(told)
    )


def _added_environment(run: "RunRecord") -> dict[str, str]:
    """What the launcher added to the environment, which the replay's will add again."""
    try:
        return read_launch(RunFolder(Path(run.folder)).launch).env
    except MissingInputError:
        return {}


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    keys = sorted(before.keys() | now)
    return [f"{k}: {before.get(k)} to {now.get(k)}" for k in keys if before.get(k) != now.get(k)]


def _machine_items(
    run: "RunRecord", config: JobConfig, provenance: Provenance, hardware: Mapping[str, Any]
) -> Iterator[PlanItem]:
    before, now = machine_of(provenance.hardware), machine_of(hardware)
    changed = _changes(before, now)
    yield PlanItem(
        run.id, "hardware", "machine", "drifted" if changed else "identical", "; ".join(changed)
    )
    on_gpu = bool(before["gpus"]) and not getattr(config, "use_cpu", False)
    if on_gpu and config.kind == "train" and not getattr(config, "deterministic", False):
        yield PlanItem(
            run.id, "determinism", "GPU kernels", "drifted", "the run was not deterministic"
        )


def machine_of(hardware: Mapping[str, Any]) -> dict[str, Any]:
    """What of the hardware may change a number: which GPUs, which CPU, how many cores (a sum over
    four threads rounds otherwise than one over two)."""
    gpus = hardware.get("gpus") or []
    cpus = hardware.get("cpus") or {}
    return {
        "gpus": [gpu.get("name") for gpu in gpus],
        "cpu": cpus.get("model"),
        "cores": cpus.get("usable"),
    }


def _grade(items: list[PlanItem]) -> Literal["A", "B", "C"]:
    grade: Literal["A", "B", "C"] = "A"
    for item in items:
        if item.standing in {"identical", "replayed"}:
            continue
        if item.role in INPUT_ROLES or item.role in {"config", "provenance"}:
            return "C"
        grade = "B"
    return grade


def check_allowed(plan: Plan, allowed: frozenset[str]) -> None:
    """Refuse a plan with changed or missing inputs.

    Raises ``MissingInputError`` for a missing one, ``RefusedError`` for one that changed and is not
    in ``allowed``, ``UsageError`` for a word in ``allowed`` that is no input.
    """
    if unknown := sorted(allowed - INPUT_ROLES):
        raise UsageError(
            f"--allow-drift knows no {', '.join(unknown)}",
            where="--allow-drift",
            fix=f"It takes {', '.join(sorted(INPUT_ROLES))}.",
        )
    if missing := plan.of("missing"):
        raise MissingInputError(
            f"{missing[0].role} of run {missing[0].run_id} is gone", where=missing[0].name
        )
    drifted = [item for item in plan.of("drifted") if item.role in INPUT_ROLES | {"config"}]
    refused = [item for item in drifted if item.role not in allowed]
    if refused:
        roles = ",".join(sorted({item.role for item in refused if item.role in INPUT_ROLES}))
        told = "; ".join(f"{item.role} {item.name}: {item.detail}" for item in refused)
        raise RefusedError(
            f"inputs are not what they were: {told}",
            where=refused[0].run_id,
            fix=f"Restore them, or accept it with --allow-drift {roles}." if roles else None,
        )


def config_of(run: "RunRecord") -> JobConfig:
    """The config a run had. Raises ``UsageError`` when this version cannot read it."""
    try:
        return KINDS[run.kind].model_validate_json(run.config)
    except (KeyError, ValueError) as error:
        raise UsageError(
            f"this version cannot read the run's config: {error}", where=run.id
        ) from error


def replay_config(run: "RunRecord", home: RunFolder, moved: list[Moved]) -> JobConfig:
    """The run's config for a replay: outputs in ``home``, inputs from the replays before it.

    ``moved`` tells where those wrote; where this one will is added to it.
    """
    cwd = _cwd(run)
    values: dict[str, Any] = json.loads(run.config)
    values = {key: _moved(value, cwd, moved) for key, value in values.items()}
    moved.append(Moved(Path(run.folder), home.path))
    for key in _OUTPUT_KEYS:
        if values.get(key):
            old = cwd / json.loads(run.config)[key]
            new = home.artifacts / ("tensorboard" if key == "tb_dir" else old.name)
            moved.append(Moved(old, new))
            values[key] = str(new)
    # Its own cache, so that a replay tokenizes again and does not merely find what is there.
    if "cache_dir" in values:
        values["cache_dir"] = str(home.artifacts / "data-cache")
    # The longest first: an output may lie inside another run's folder.
    moved.sort(key=lambda place: len(place.old.parts), reverse=True)
    return KINDS[run.kind].model_validate(values)


def _moved(value: Any, cwd: Path, moved: list[Moved]) -> Any:
    if isinstance(value, list):
        return [_moved(item, cwd, moved) for item in value]
    if not isinstance(value, str) or not value:
        return value
    path = cwd / value
    place = moved_to(path, moved)
    return value if place == path else str(place)
