"""``mft-tui benchmarks``: which benchmarks are here, where they come from, and what they ask."""

from pathlib import Path
from typing import Annotated

import typer

from mft_tui.cli.output import console, data, print_json

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="List, import, fetch or print benchmarks."
)


@app.command("list")
def list_(
    benchmarks: Annotated[
        Path | None, typer.Option(help="Benchmark folder; the imported one by default.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="As JSON on stdout.")] = False,
) -> None:
    """The tasks, how many questions each has here, and whether the rows are the competition's.

    \b
    Examples:
      mft-tui benchmarks list
      mft-tui benchmarks list --benchmarks path/to/benchmarks --json
    """
    from runners.benchmarks.collection import present
    from runners.benchmarks.rows import imported_benchmarks, load_questions
    from runners.benchmarks.tasks import benchmark_of, get_task, known_tasks

    folder = benchmarks or imported_benchmarks()
    reports = {report.name: report for report in present(folder)}
    rows = []
    for task in known_tasks():
        report = reports.get(benchmark_of(task).rows_files(get_task(task))[0])
        rows.append(
            {
                "task": task,
                "questions": len(load_questions(folder, task)) if report else 0,
                "official": benchmark_of(task).official_count(get_task(task)),
                "verdict": report.verdict if report else "missing",
                "sha256": report.sha256 if report else None,
            }
        )
    if json:
        print_json({"folder": str(folder), "tasks": rows})
        return
    from rich.table import Table

    table = Table("task", "questions", "rows", title=str(folder))
    for row in rows:
        table.add_row(str(row["task"]), str(row["questions"]), str(row["verdict"]))
    data.print(table)
    if not reports:
        console.print("Nothing is here yet: `mft-tui benchmarks fetch`, or `… import DIR`.")


@app.command("import")
def import_(
    folder: Annotated[Path, typer.Argument(metavar="DIR", show_default=False)],
) -> None:
    """Copy a benchmark folder to where every command finds it, checked against the competition's.

    \b
    Example:
      mft-tui benchmarks import path/to/benchmarks
    """
    from runners.benchmarks.collection import import_folder
    from runners.benchmarks.rows import resolve_benchmarks

    _tell(import_folder(resolve_benchmarks(folder)))


@app.command("fetch")
def fetch_(
    revision: Annotated[str, typer.Option(help="Commit or branch of the hub's data set.")] = "",
    endpoint: Annotated[
        str | None, typer.Option(help="A mirror of the hub; HF_ENDPOINT by default.")
    ] = None,
    mbpp_url: Annotated[
        str,
        typer.Option(help="Address or file to take mbpp.jsonl from, if not its own repository."),
    ] = "",
) -> None:
    """Download the benchmarks and check every row.

    HF_HUB_OFFLINE=1 takes what the hub's cache has, and of MBPP, which does not live there, the
    file named with --mbpp-url or fetched before.

    \b
    Example:
      HF_ENDPOINT=https://hf-mirror.example mft-tui benchmarks fetch
    """
    from runners.benchmarks.collection import fetch

    elsewhere = {"mbpp.jsonl": mbpp_url} if mbpp_url else {}
    _tell(fetch(revision=revision or None, endpoint=endpoint, elsewhere=elsewhere))


def _tell(reports: object) -> None:
    from runners.benchmarks.fingerprints import FileReport
    from runners.benchmarks.rows import imported_benchmarks

    assert isinstance(reports, list)
    for report in reports:
        assert isinstance(report, FileReport)
        console.print(f"{report.name}: {report.rows} rows, {report.verdict}", markup=False)
    console.print(f"in {imported_benchmarks()}", markup=False, soft_wrap=True)


@app.command()
def prompts(
    tasks: Annotated[
        str | None, typer.Option(help="Tasks or families, comma separated; all 13 by default.")
    ] = None,
    format_: Annotated[str, typer.Option("--format", help="reference or chatml.")] = "reference",
    system_prompt: Annotated[str, typer.Option(help="System message of the chat formats.")] = "",
    code_prefix: Annotated[str, typer.Option(help="With chatml: user, or answer.")] = "user",
    benchmarks: Annotated[
        Path | None, typer.Option(help="Benchmark folder; the imported one by default.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Only the first N of each task.")] = None,
) -> None:
    """Print the text that the model would see, as JSONL {task, index, prompt}.

    \b
    Examples:
      mft-tui benchmarks prompts --tasks mbpp --limit 1
      mft-tui benchmarks prompts --format chatml > prompts.jsonl
    """
    import json
    import sys
    from typing import get_args

    from runners.benchmarks.prompts import CodePrefix, Format, PromptStyle, prompt
    from runners.benchmarks.rows import load_questions, resolve_benchmarks
    from runners.benchmarks.tasks import chosen_tasks
    from runners.errors import UsageError

    for value, kind, where in (
        (format_, Format, "--format"),
        (code_prefix, CodePrefix, "--code-prefix"),
    ):
        if value not in get_args(kind):
            raise UsageError(f"{value!r} is not one of {', '.join(get_args(kind))}", where=where)
    style = PromptStyle(format_, system_prompt, code_prefix)  # type: ignore[arg-type]
    names = [name.strip() for name in tasks.split(",")] if tasks else []
    folder = resolve_benchmarks(benchmarks)
    for task in chosen_tasks(names):
        for question in load_questions(folder, task)[:limit]:
            line = {"task": task, "index": question.index, "prompt": prompt(question, style).text}
            sys.stdout.write(json.dumps(line) + "\n")
