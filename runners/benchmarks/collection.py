"""The benchmarks that a machine has: imported from a folder, or fetched from where they live.

Either way the files land in the state folder under our own layout, checked against the
competition's rows first: a copy with changed rows is not taken, because its scores would look
comparable and not be.
"""

import os
import shutil
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from runners.benchmarks.family import HubFile, WebFile
from runners.benchmarks.fingerprints import FileReport, compare, warnings
from runners.benchmarks.rows import imported_benchmarks, rows_path
from runners.benchmarks.tasks import TASKS, benchmark_of, get_task, known_tasks
from runners.errors import JobFailedError, RefusedError

Fetch = Callable[[str, Path], None]
"""Brings the named file of our layout to a path. Raises ``MftError`` when it cannot."""


def import_folder(
    source: Path, target: Path | None = None, *, tasks: Iterable[str] = TASKS
) -> list[FileReport]:
    """Copy the benchmark in ``source``, in any layout we know, to the state folder.

    Raises ``MissingInputError`` for a missing file, ``UsageError`` for a broken row, and
    ``RefusedError`` for rows that differ from the competition's.
    """
    reports = compare(source, tasks)
    if untrue := [*warnings(reports), *_strangers(reports)]:
        raise RefusedError(
            "this is not a true copy of the competition's benchmark",
            where=str(source),
            fix="\n  ".join([*untrue, "Name the folder with --benchmarks to use it as it is."]),
        )
    for report in reports:
        place = (target or imported_benchmarks()) / report.name
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary = place.with_name(f".{place.name}.part")
        shutil.copyfile(report.path, temporary)
        temporary.replace(place)
    return reports


def _strangers(reports: Iterable[FileReport]) -> list[str]:
    return [
        f"{report.path}: none of its rows is one of the competition's {report.name}"
        for report in reports
        if report.verdict == "other"
    ]


def fetch(
    target: Path | None = None,
    *,
    revision: str | None = None,
    endpoint: str | None = None,
    elsewhere: Mapping[str, str] | None = None,
    bring: Fetch | None = None,
) -> list[FileReport]:
    """Download every benchmark that says where it lives, check each row, and keep the files.

    ``revision`` is another than the pinned one of the hub's data sets, and ``endpoint`` a mirror of
    the hub, else ``HF_ENDPOINT``. ``elsewhere`` gives files by name an address, or a path on this
    machine, of their own. ``HF_HUB_OFFLINE=1`` takes what the hub's own cache has and, of files
    that live elsewhere, what was fetched before. Raises ``JobFailedError`` when a download fails
    and ``RefusedError`` when what came is not the competition's.
    """
    kept = target or imported_benchmarks()
    origins = fetchable()
    bring = bring or _downloader(origins, revision, endpoint, elsewhere or {}, kept)
    with tempfile.TemporaryDirectory(prefix="mft-benchmarks-") as scratch:
        for name in origins:
            place = Path(scratch) / name
            place.parent.mkdir(parents=True, exist_ok=True)
            bring(name, place)
        tasks = [task for task in known_tasks() if _name(task) in origins]
        return import_folder(Path(scratch), target, tasks=tasks)


def fetchable() -> dict[str, HubFile | WebFile]:
    """The files of our layout that can be fetched, and where each lives."""
    origins = {}
    for task in known_tasks():
        if (origin := benchmark_of(task).origin(get_task(task))) is not None:
            origins[_name(task)] = origin
    return origins


def _name(task: str) -> str:
    return benchmark_of(task).rows_files(get_task(task))[0]


def _downloader(
    origins: Mapping[str, HubFile | WebFile],
    revision: str | None,
    endpoint: str | None,
    elsewhere: Mapping[str, str],
    kept: Path,
) -> Fetch:
    def bring(name: str, place: Path) -> None:
        origin = WebFile(elsewhere[name]) if name in elsewhere else origins[name]
        if isinstance(origin, HubFile):
            _from_hub(origin, revision or origin.revision, endpoint, place)
        elif "://" not in origin.url:
            _from_here(Path(origin.url), place)
        elif _offline():
            _from_before(name, kept / name, place)
        else:
            _from_url(origin.url, place)

    return bring


def _offline() -> bool:
    # As the hub's client reads it; it keeps what it read when it was imported.
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


def _from_hub(origin: HubFile, revision: str, endpoint: str | None, place: Path) -> None:
    from huggingface_hub import hf_hub_download

    try:
        got = hf_hub_download(
            origin.dataset, origin.path, repo_type="dataset", revision=revision, endpoint=endpoint
        )
    except Exception as error:
        # The hub's client raises its HTTP library's errors, which change with its versions.
        raise _failed(f"{origin.dataset}/{origin.path}", error) from error
    shutil.copyfile(got, place)


def _from_url(url: str, place: Path) -> None:
    if not url.startswith(("https://", "http://")):
        raise _failed(url, ValueError("not an http address"))
    try:
        with urllib.request.urlopen(url, timeout=60) as answer, place.open("wb") as file:  # noqa: S310
            shutil.copyfileobj(answer, file)
    except (urllib.error.URLError, OSError) as error:
        raise _failed(url, error) from error


def _from_here(path: Path, place: Path) -> None:
    try:
        shutil.copyfile(path.expanduser(), place)
    except OSError as error:
        raise _failed(str(path), error) from error


def _from_before(name: str, before: Path, place: Path) -> None:
    if not before.is_file():
        raise JobFailedError(
            f"HF_HUB_OFFLINE is set, and {name} does not live on the hub and was never fetched",
            where=str(before),
            fix="Copy the file here and name it with --mbpp-url PATH, or use "
            "`mft-tui benchmarks import DIR`.",
        )
    shutil.copyfile(before, place)


def _failed(where: str, error: Exception) -> JobFailedError:
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return JobFailedError(
        f"the download failed ({line})",
        where=where,
        fix="Behind a firewall, set HF_ENDPOINT to a mirror (--mbpp-url for MBPP), or copy the "
        "files here and use `mft-tui benchmarks import DIR`.",
    )


def present(folder: Path) -> list[FileReport]:
    """What a benchmark folder holds; files that are missing are left out."""
    found = [task for task in known_tasks() if _has(folder, task)]
    return compare(folder, found)


def _has(folder: Path, task: str) -> bool:
    names = benchmark_of(task).rows_files(get_task(task))
    return any((folder / name).is_file() for name in names) and rows_path(folder, task).is_file()
