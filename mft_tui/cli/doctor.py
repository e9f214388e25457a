"""``mft-tui doctor``: what works on this machine, what is missing, and the line that brings it."""

import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mft_tui.cli.output import console, data, print_json

if TYPE_CHECKING:
    from runners.evaluate.selfcheck import Check as Tried
    from runners.hardware.nvml import Nvml
    from runners.hardware.probe import Hardware

State = Literal["works", "missing", "broken", "note"]

MARKS = {"works": "[green]✓[/]", "missing": "[yellow]–[/]", "broken": "[red]✗[/]", "note": "·"}
LOW_DISK = 10 << 30
"""Free bytes below which a checkpoint or two fill the disk."""


@dataclass(frozen=True)
class Check:
    """One thing looked at. ``missing`` is optional and not there; ``broken`` stands in the way;
    ``fix`` is the line that helps."""

    area: str
    name: str
    state: State
    detail: str
    fix: str | None = None


@dataclass(frozen=True)
class Report:
    """All that was looked at, the hardware in full."""

    hardware: "Hardware"
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is broken; what is missing may not be wanted."""
        return all(check.state != "broken" for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """Plain data for ``--json``."""
        return {
            "ok": self.ok,
            "hardware": self.hardware.to_json(),
            "checks": [asdict(check) for check in self.checks],
        }


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Report as JSON on stdout.")] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Leave out the sandbox's self-check.")
    ] = False,
) -> None:
    """Look at GPUs, CPUs, packages, toolchains, the sandbox, the state folder and the benchmarks.

    Says of each what works, what is missing, and the line that installs it.

    \b
    Examples:
      mft-tui doctor
      mft-tui doctor --quick
      mft-tui doctor --json | jq '.checks[] | select(.state != "works")'
    """
    report = examine(sandbox=None if quick else sandbox_checks)
    if as_json:
        print_json(report.to_json())
    else:
        show(report)


def gpu_checks(hardware: "Hardware") -> Iterator[Check]:
    """GPUs, which of them jobs see, and every oddity of the driver."""
    usable = {device.gpu_index for device in hardware.usable}
    if hardware.driver is not None and hardware.driver.version:
        cuda = hardware.driver.cuda
        newest = f", CUDA up to {cuda[0]}.{cuda[1]}" if cuda else ""
        yield Check("gpu", "driver", "works", f"{hardware.driver.version}{newest}")
    for gpu in hardware.gpus:
        name = f"GPU {gpu.index}"
        if gpu.lost:
            yield Check(
                "gpu",
                name,
                "broken",
                "counted by the driver but does not answer",
                f"nvidia-smi -i {gpu.index} -q   # then reset the GPU or the machine",
            )
            continue
        facts = [gpu.name, *_gpu_facts(gpu)]
        if gpu.index not in usable:
            facts.append("not visible to jobs")
        yield Check("gpu", name, "works" if gpu.index in usable else "note", ", ".join(facts))
        for part in gpu.mig:
            size = f", {_gib(part.memory.total)}" if part.memory else ""
            yield Check("gpu", f"{name} slice {part.index}", "note", f"{part.name}{size}")
        for process in gpu.processes:
            held = _gib(process.memory) if process.memory is not None else "an unknown amount"
            yield Check(
                "gpu",
                f"{name} process {process.pid}",
                "note",
                f"{process.who or 'outside this container'} holds {held}",
            )
    for text in hardware.notes:
        yield Check("gpu", "note", "note", text)


def _gpu_facts(gpu: Any) -> Iterator[str]:
    if gpu.memory is not None:
        yield f"{_gib(gpu.memory.free)} of {_gib(gpu.memory.total)} free"
    if gpu.compute_capability is not None:
        yield "compute {}.{}".format(*gpu.compute_capability)
    if gpu.bf16 is not None:
        yield "bf16" if gpu.bf16 else "no bf16"
    if gpu.utilisation is not None:
        yield f"{gpu.utilisation}% busy"
    if gpu.temperature is not None:
        yield f"{gpu.temperature} °C"
    if gpu.power is not None:
        limit = f" of {gpu.power_limit:.0f}" if gpu.power_limit is not None else ""
        yield f"{gpu.power:.0f}{limit} W"
    if gpu.nvlinks:
        yield f"{gpu.nvlinks} NVLinks"
    if gpu.mig_enabled:
        yield f"MIG with {len(gpu.mig)} slices"


def host_checks(hardware: "Hardware") -> Iterator[Check]:
    """Cores and memory, with the container's limits named where they bite."""
    cpus, memory = hardware.cpus, hardware.memory
    limits = []
    if cpus.affinity < cpus.logical:
        limits.append(f"affinity allows {cpus.affinity}")
    if cpus.quota is not None:
        limits.append(f"the container's quota is {cpus.quota:g}")
    told = f"{cpus.usable} of {cpus.logical} cores usable"
    model = f", {cpus.model}" if cpus.model else ""
    yield Check("host", "CPU", "works", f"{told}{model}" + "".join(f"; {text}" for text in limits))
    limit = (
        f"; the container's limit of a machine with {_gib(memory.total)}"
        if memory.limit is not None
        else ""
    )
    yield Check(
        "host",
        "memory",
        "works",
        f"{_gib(memory.available)} of {_gib(memory.usable)} available{limit}",
    )


def package_checks(
    hardware: "Hardware",
    *,
    requirements: Sequence[str] | None = None,
    version: Callable[[str], str] = metadata.version,
) -> Iterator[Check]:
    """Installed packages and their versions, from the metadata: nothing is imported.

    ``requirements`` are those of mft-tui itself, such as ``'torch>=2.6; extra == "train"'``.
    """
    wanted = metadata.requires("mft-tui") or [] if requirements is None else requirements
    for requirement in wanted:
        name = _match(r"[\w.-]+", requirement)
        extra = _match(r"""extra == ['"]([\w-]+)['"]""", requirement)
        if extra == "dev":
            continue
        bring = f"pip install 'mft-tui[{extra}]'" if extra else "pip install --upgrade mft-tui"
        try:
            found = version(name)
        except metadata.PackageNotFoundError:
            absent: State = "missing" if extra else "broken"
            needed = f"not installed (extra {extra})" if extra else "not installed"
            yield Check("packages", name, absent, needed, bring)
            continue
        if name == "torch" and "+cpu" in found and hardware.usable:
            yield Check(
                "packages",
                name,
                "broken",
                f"{found} was built without CUDA, so it does not see the GPUs",
                "pip install --force-reinstall torch",
            )
            continue
        yield Check("packages", name, "works", found)


def _match(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    return (found[1] if found.groups() else found[0]) if found else ""


def toolchain_checks() -> Iterator[Check]:
    """The compilers and interpreters of the six languages."""
    from concurrent.futures import ThreadPoolExecutor

    from runners.evaluate.languages import LANGUAGES
    from runners.evaluate.languages.base import Missing
    from runners.evaluate.toolchains import discover

    # Each asks a compiler for its version and waits: together they take as long as the slowest.
    with ThreadPoolExecutor(len(LANGUAGES)) as pool:
        answers = [
            found for each in pool.map(lambda name: discover([name]), LANGUAGES) for found in each
        ]
    for found in answers:
        if isinstance(found, Missing):
            yield Check("toolchains", found.language, "missing", found.what, found.install)
        else:
            yield Check("toolchains", found.language, "works", found.version)


def state_checks(
    *, disk_free: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free
) -> Iterator[Check]:
    """The state folder: whether it can be written, on what it lies, how much room there is."""
    from db.filesystem import file_system_of, is_network
    from runners.lifecycle.folders import state_home

    home = state_home()
    place = next(folder for folder in (home, *home.parents) if folder.exists())
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        yield Check(
            "state",
            "folder",
            "broken",
            f"{home} cannot be {'written' if place == home else 'made'}",
            "export MFT_HOME=/a/folder/of/yours",
        )
        return
    yield Check("state", "folder", "works", f"{home}{'' if place == home else ' (not made yet)'}")
    kind = file_system_of(place)
    if is_network(kind):
        yield Check(
            "state",
            "file system",
            "note",
            f"{kind} is a network file system: the database does without WAL and is slower",
            "export MFT_HOME=/a/local/folder",
        )
    else:
        yield Check("state", "file system", "works", kind or "unknown")
    free = disk_free(place)
    low = free < LOW_DISK
    yield Check(
        "state",
        "disk",
        "note" if low else "works",
        f"{_gib(free)} free" + (", which a checkpoint or two may fill" if low else ""),
        "mft-tui runs gc" if low else None,
    )


def benchmark_checks() -> Iterator[Check]:
    """Whether the real benchmarks are imported, and how many of the 13 tasks they answer for."""
    from runners.benchmarks.rows import imported_benchmarks, rows_path
    from runners.benchmarks.tasks import TASKS
    from runners.errors import MissingInputError

    folder = imported_benchmarks()
    there, absent = [], []
    for task in TASKS:
        try:
            rows_path(folder, str(task))
        except MissingInputError:
            absent.append(str(task))
        else:
            there.append(str(task))
    fix = "mft-tui benchmarks fetch   # or: mft-tui benchmarks import DIR"
    if not there:
        yield Check("benchmarks", "rows", "missing", f"none in {folder}", fix)
    elif absent:
        yield Check("benchmarks", "rows", "missing", f"no rows for {', '.join(absent)}", fix)
    else:
        yield Check("benchmarks", "rows", "works", f"all {len(there)} tasks, in {folder}")


def examine(
    *,
    nvml: "Nvml | None" = None,
    environ: Mapping[str, str] = os.environ,
    toolchains: Callable[[], Iterator[Check]] = toolchain_checks,
    sandbox: Callable[[], Iterator[Check]] | None = None,
) -> Report:
    """Look at everything. ``sandbox`` yields the slow checks, None leaves them out."""
    from runners.hardware.probe import detect

    hardware = detect(nvml, environ)
    checks = [
        *gpu_checks(hardware),
        *host_checks(hardware),
        *package_checks(hardware),
        *toolchains(),
        *(sandbox() if sandbox is not None else ()),
        *state_checks(),
        *benchmark_checks(),
    ]
    return Report(hardware, tuple(checks))


def show(report: Report) -> None:
    """Print a report for a person, an area at a time."""
    area = None
    for check in report.checks:
        if check.area != area:
            area = check.area
            data.print(f"\n[bold]{area}[/]")
        data.print(f"  {MARKS[check.state]} {check.name}: ", end="", soft_wrap=True)
        data.print(check.detail, markup=False, soft_wrap=True)
        if check.fix is not None:
            data.print(f"      {check.fix}", markup=False, style="cyan", soft_wrap=True)
    broken = sum(check.state == "broken" for check in report.checks)
    missing = sum(check.state == "missing" for check in report.checks)
    data.print(
        f"\n{broken} broken, {missing} missing, "
        f"{sum(check.state == 'works' for check in report.checks)} work"
    )


def _gib(size: int) -> str:
    from runners.hardware.estimate import gib

    return gib(size)


def sandbox_checks() -> Iterator[Check]:
    """The sandbox's own list of behaviours, each tried for real; tells how far it is on stderr."""
    from runners.errors import MissingInputError
    from runners.evaluate import selfcheck
    from runners.evaluate.sandbox.docker import engine_or_error

    with console.status("trying the sandbox, a few seconds…"):
        yield from _tried("", selfcheck.run())
    try:
        engine_or_error()
    except MissingInputError as error:
        yield Check("sandbox", "container engine", "missing", error.what, error.fix)
        return
    yield Check("sandbox", "container engine", "works", "for --sandbox docker")
    yield from _container_checks()


def _container_checks() -> Iterator[Check]:
    """The same list for containers, where our image was built."""
    from runners.config.evaluate import EvaluateConfig
    from runners.evaluate import selfcheck
    from runners.evaluate.imagetools import discover_in_image
    from runners.evaluate.languages.base import Missing
    from runners.evaluate.sandbox.base import SandboxError
    from runners.evaluate.sandbox.docker import DockerSandbox, build_line

    image = str(EvaluateConfig.model_fields["docker_image"].default)
    build = build_line(image)
    try:
        (python,) = discover_in_image(DockerSandbox(image), ["python"], build)
    except SandboxError as error:
        yield Check("sandbox", "container image", "missing", error.what, build)
        return
    if isinstance(python, Missing):
        yield Check("sandbox", "container image", "broken", python.what, build)
        return
    with console.status("trying containers, some seconds…"):
        yield from _tried("container: ", selfcheck.run(lambda: DockerSandbox(image), python))


def _tried(prefix: str, results: "Sequence[Tried]") -> Iterator[Check]:
    for result in results:
        state: State = "works" if result.ok else "broken"
        seen = " ".join(result.detail.split())
        yield Check("sandbox", f"{prefix}{result.name}", state, seen, result.fix or None)
