"""``mft-tui validate`` and ``mft-tui preview``: training data looked at before a run."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table
from rich.text import Text

from mft_tui.cli.output import console, data, print_json
from mft_tui.cli.tables import print_table
from runners.errors import ExitCode

if TYPE_CHECKING:
    from runners.data.preview import Preview
    from runners.data.report import TaskReport, Validation, Warned

_WORDS = {
    "duplicate": "repeat an earlier record of the task",
    "duplicate_across_tasks": "repeat a record of an earlier task",
    "empty_answer": "have an empty answer",
    "cut_code_fence": "have an answer that ends inside a code fence",
    "special_token_text": "hold text that looks like a special token; it is trained as text",
    "leakage": "hold text of a benchmark question or solution",
}
_ERRORS_PRINTED = 20
_REDRAW_SECONDS = 0.1

_Tokenizer = Annotated[
    Path | None, typer.Option(help="Tokenizer folder; counts tokens and what would not fit.")
]
_AsJson = Annotated[bool, typer.Option("--json", help="Report as JSON on stdout.")]
_SystemPrompt = Annotated[
    str | None, typer.Option(help="System message for records that have none.")
]


def validate(
    folders: Annotated[list[Path], typer.Argument(help="Task folders, or a folder of them.")],
    tokenizer: _Tokenizer = None,
    seq_length: Annotated[int, typer.Option(min=8, help="Longest row in tokens.")] = 2048,
    overlong: Annotated[
        Literal["truncate", "drop", "split", "error"],
        typer.Option(help="What a run would do with longer records."),
    ] = "truncate",
    system_prompt: _SystemPrompt = None,
    benchmarks: Annotated[
        Path | None,
        typer.Option(help="Benchmarks to look for leakage of; the imported ones by default."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Worker processes; one a core by default.")
    ] = None,
    as_json: _AsJson = False,
) -> None:
    """Check task folders of JSONL: every error with its line, and what the data is made of.

    Plain, .gz and .zst files in the formats chat_rounds, messages, conversations, prompt/answer and
    text. Exits with 1 when a record is broken, 5 when a folder is not there.

    \b
    Examples:
      mft-tui validate data/docstring2code data/fixbug
      mft-tui validate data --tokenizer models/Qwen2.5-1.5B --seq-length 4096
      mft-tui validate data --json | jq .error_count
    """
    from runners.benchmarks.rows import imported_benchmarks, resolve_benchmarks
    from runners.data.validate import TokenQuestion
    from runners.data.validate import validate as check

    known = imported_benchmarks()
    leak_source = resolve_benchmarks(benchmarks) if benchmarks or known.is_dir() else None
    question = TokenQuestion(tokenizer, seq_length, overlong, system_prompt) if tokenizer else None
    with _progress() as progress:
        bar = progress.add_task("checking", total=None)
        last = 0.0

        def tell(done: int, total: int) -> None:
            nonlocal last
            if done == total or time.monotonic() - last > _REDRAW_SECONDS:
                last = time.monotonic()
                progress.update(bar, completed=done, total=total)

        report = check(
            folders, tokens=question, benchmarks=leak_source, workers=workers, on_progress=tell
        )
    if as_json:
        print_json(report)
    else:
        _show(report)
    if not report.ok or (overlong == "error" and _longer(report)):
        raise typer.Exit(ExitCode.FAILED)


def preview(
    folder: Annotated[Path, typer.Argument(help="A task folder, or a folder of them.")],
    tokenizer: Annotated[Path, typer.Option(help="Tokenizer folder.")],
    index: Annotated[int, typer.Option(min=0, help="Which record, from 0.")] = 0,
    system_prompt: _SystemPrompt = None,
    as_json: Annotated[bool, typer.Option("--json", help="Ids and mask as JSON.")] = False,
) -> None:
    """Print a record as the model sees it, with the tokens that are trained in colour.

    \b
    Examples:
      mft-tui preview data/fixbug --tokenizer models/Qwen2.5-1.5B
      mft-tui preview data/fixbug --tokenizer models/Qwen2.5-1.5B --index 41 --json
    """
    from runners.data.preview import preview as look

    seen = look(folder, tokenizer, index=index, system_prompt=system_prompt)
    if as_json:
        print_json(_preview_json(seen))
        return
    text = Text()
    for piece in seen.pieces:
        text.append(piece.text, style="bold green" if piece.trained else "dim")
    data.print(text)
    trained = sum(seen.mask)
    console.print(
        f"{escape(seen.file)}:{seen.line}, task {escape(seen.task)}: {len(seen.ids)} tokens, "
        f"[bold green]{trained} trained[/] (in colour)"
    )
    if seen.added:
        _tell_added({token.text: token.id for token in seen.added})


def _preview_json(seen: "Preview") -> dict[str, object]:
    return {
        "task": seen.task,
        "file": seen.file,
        "line": seen.line,
        "ids": seen.ids,
        "mask": seen.mask,
        "pieces": [{"text": p.text, "trained": p.trained} for p in seen.pieces],
        "added_tokens": {token.text: token.id for token in seen.added},
    }


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def _longer(report: "Validation") -> int:
    return sum(task.tokens.longer for task in report.tasks if task.tokens)


def _show(report: "Validation") -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("task", overflow="fold", min_width=14)
    table.add_column("format", no_wrap=True)
    for heading in ("files", "records", "rounds", "MB", "chars", "p99", "errors"):
        table.add_column(heading, justify="right", no_wrap=True)
    for task in report.tasks:
        errors = f"[red]{task.error_count:,}[/]" if task.error_count else "0"
        table.add_row(
            escape(task.name),
            task.format,
            f"{task.files:,}",
            f"{task.records:,}",
            f"{task.rounds:,}",
            f"{task.bytes / 1e6:,.1f}",
            f"{task.lengths.p50:,}",
            f"{task.lengths.p99:,}",
            errors,
        )
    print_table(table)
    if any(task.tokens for task in report.tasks):
        print_table(_token_table(report.tasks))
    for task in report.tasks:
        _show_fences(task)
        for warned in task.warnings:
            _show_warning(task.name, warned)
    _show_warning("all tasks", report.cross_task_duplicates)
    if not report.leakage_checked:
        console.print(
            "leakage was not looked for: no benchmarks are imported "
            "(mft-tui benchmarks import DIR, or --benchmarks DIR)",
            style="dim",
        )
    if report.tokenizer and report.tokenizer.added_tokens:
        _tell_added(report.tokenizer.added_tokens)
    _show_errors(report)


def _token_table(tasks: "list[TaskReport]") -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("task", overflow="fold")
    headings = ("tokens", "trained", "p50", "p99", "max", "too long", "cut", "split", "left out")
    for heading in (*headings, "pack fill"):
        table.add_column(heading, justify="right")
    for task in tasks:
        if (t := task.tokens) is not None:
            numbers = (t.tokens, t.trained_tokens, t.lengths.p50, t.lengths.p99, t.lengths.max)
            fates = (t.longer, t.truncated, t.split, t.dropped + t.untrained)
            cells = [f"{n:,}" for n in (*numbers, *fates)]
            table.add_row(escape(task.name), *cells, f"{t.pack_fill:.1%}")
    return table


def _show_fences(task: "TaskReport") -> None:
    if task.fences:
        most = [f"{name or 'unnamed'} {count:,}" for name, count in list(task.fences.items())[:8]]
        data.print(f"{escape(task.name)}: code fences: {escape(', '.join(most))}")


def _show_warning(owner: str, warned: "Warned") -> None:
    if warned.count:
        words = _WORDS.get(warned.kind, warned.kind)
        data.print(f"[yellow]warning[/] {escape(owner)}: {warned.count:,} records {words}")
        for example in warned.examples[:3]:
            place = f"{example.file}:{example.line}"
            data.print(f"  {escape(place)}: {escape(example.message)}", style="dim", soft_wrap=True)


def _tell_added(added: dict[str, int]) -> None:
    named = ", ".join(f"{token} (id {number})" for token, number in added.items())
    console.print(
        f"[yellow]note[/] the tokenizer lacks {escape(named)}: training adds them and makes the "
        "embeddings larger to hold them"
    )


def _show_errors(report: "Validation") -> None:
    errors = [error for task in report.tasks for error in task.errors]
    for error in errors[:_ERRORS_PRINTED]:
        text = f"{error.file}:{error.line}: {error.where} {error.message}".replace(":  ", ": ")
        data.print(f"[red]error[/] {escape(text)}", soft_wrap=True)
    if report.error_count > _ERRORS_PRINTED:
        more = report.error_count - len(errors[:_ERRORS_PRINTED])
        data.print(f"… and {more:,} more (--json shows the first 100 of each file)")
    verdict = "[green]ok[/]" if report.ok else f"[red]{report.error_count:,} errors[/]"
    data.print(
        f"{verdict}: {report.records:,} records in {report.seconds:.1f} s, "
        f"{report.warning_count:,} warnings"
    )
