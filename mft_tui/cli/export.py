"""``mft-tui export``: check a set of generations and pack it for submission."""

import json as jsonlib
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from runners.errors import ExitCode, MissingInputError

if TYPE_CHECKING:
    from runners.submission.checks import Check


def export(
    source: Annotated[
        str,
        typer.Argument(
            metavar="RUN_OR_GENERATIONS_DIR",
            help="A generate run, the folder generations_{model}, or with --check a zip.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path | None, typer.Option(help="The zip; in the run's artifacts by default.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Only check; write nothing.")] = False,
    benchmarks: Annotated[
        Path | None, typer.Option(help="Benchmark folder whose question counts hold.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="A name for the run.")] = None,
    json: Annotated[bool, typer.Option("--json", help="The checks as JSON on stdout.")] = False,
) -> None:
    """Check the 13 files and pack them into the submission zip.

    A sampled or incomplete set is refused, with the reason for each file (exit code 4).

    \b
    Examples:
      mft-tui export out/generations_my-model --output my-model.zip
      mft-tui export 3f2a --check
      mft-tui export my-model.zip --check
    """
    from mft_tui.cli.launching import run_job_command
    from runners.config.resolve import resolve
    from runners.submission.checks import check_folder, check_zip

    folder, parent = _located(source)
    if check and folder.suffix == ".zip":
        checks = check_zip(folder, benchmarks)
    else:
        checks = check_folder(folder, benchmarks)
    ok = all(each.ok for each in checks)
    if check or not ok:
        _report(folder, checks, as_json=json)
        raise typer.Exit(ExitCode.DONE if ok else ExitCode.REFUSED)
    flags: dict[str, object] = {"generations": folder}
    if output is not None:
        flags["output"] = output.absolute()
    if benchmarks is not None:
        flags["benchmarks"] = benchmarks.absolute()
    resolved = resolve("export", flags=flags)
    raise typer.Exit(
        run_job_command(
            resolved.config, name=name, parent=parent, json=json, origins=resolved.origins
        )
    )


def _report(source: Path, checks: "list[Check]", *, as_json: bool) -> None:
    from mft_tui.cli.output import console, print_json

    ok = all(check.ok for check in checks)
    if as_json:
        zipped = str(source) if source.suffix == ".zip" else None
        shown = [asdict(check) for check in checks]
        print_json({"ok": ok, "zip": zipped, "sha256": _digest(source), "checks": shown})
    for check in checks:
        if not check.ok:
            console.print(f"error: {check.name}: {check.detail}", markup=False, soft_wrap=True)
    if ok:
        console.print(f"{source}: all {len(checks)} checks hold", markup=False, soft_wrap=True)


def _digest(source: Path) -> str | None:
    import hashlib

    if source.suffix != ".zip":
        return None
    with source.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _located(source: str) -> tuple[Path, str | None]:
    """The folder (or zip) that is meant, and the run it comes from, if it is one."""
    path = Path(source).expanduser()
    if path.exists():
        inside = sorted(path.glob("generations_*/")) if path.is_dir() else []
        if not path.name.startswith("generations_") and len(inside) == 1:
            return inside[0].absolute(), None
        return path.absolute(), None
    if "/" in source or source.endswith(".zip"):
        raise MissingInputError("there is nothing here", where=source)
    return _of_run(source)


def _of_run(run_id: str) -> tuple[Path, str]:
    from mft_tui.cli.store import opened_store

    with opened_store(read_only=True) as store:
        run = store.get_run(run_id)
        made = [a.path for a in store.artifacts(run.id) if a.kind == "generations"]
    summary = jsonlib.loads(run.summary) if run.summary else {}
    config = jsonlib.loads(run.config) if run.config else {}
    named = summary.get("generations") or config.get("generations")
    for candidate in [named, *(str(Path(run.folder) / path) for path in made)]:
        if candidate and Path(candidate).is_dir():
            return Path(candidate), run.id
    raise MissingInputError(
        "the run has no folder of generations",
        where=run.id,
        fix="Name a generate run that has finished, or a folder generations_{model}.",
    )
