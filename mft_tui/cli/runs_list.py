"""A page of runs, as a table, as CSV, and as JSON other programs read."""

import csv
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.table import Table

from mft_tui.cli.following import shown_seconds
from mft_tui.cli.output import console
from mft_tui.cli.tables import print_table
from runners.lifecycle.liveness import shown_status
from runners.lifecycle.processes import Machine

if TYPE_CHECKING:
    from db import Page, RunRow

COLUMNS = ("id", "kind", "name", "status", "created", "took", "progress", "pass@1", "tags")
"""What ``runs list`` shows when no columns are asked for."""

_STYLES = {"running": "green", "crashed": "red", "failed": "red", "stopping": "yellow"}


def plain_row(row: "RunRow") -> dict[str, Any]:
    """A run for JSON: its columns, tags, latest metrics and scores."""
    run = asdict(row.run)
    for name in ("config", "command", "summary"):
        run.pop(name)
    return {
        **run,
        "shown_status": _shown_status(row),
        "tags": list(row.tags),
        "metrics": dict(row.metrics),
        "scores": dict(row.scores),
        "pass_at_1": row.pass_at_1,
    }


def _shown_status(row: "RunRow") -> str:
    return shown_status(row.run, Machine.here(), time.time())


def cell(row: "RunRow", column: str) -> str:
    """One cell of a list as text; a name that is no column is a metric's."""
    run = row.run
    match column:
        case "status":
            return _shown_status(row)
        case "created":
            return time.strftime("%Y-%m-%d %H:%M", time.localtime(run.created_at))
        case "took":
            end = run.ended_at or (time.time() if run.status in {"running", "stopping"} else None)
            return shown_seconds(end - run.started_at) if end and run.started_at else ""
        case "progress":
            if run.done is None:
                return ""
            of = f"/{run.total:,}" if run.total is not None else ""
            return f"{run.stage} {run.done:,}{of}"
        case "pass@1":
            return "" if row.pass_at_1 is None else f"{row.pass_at_1:.3f}"
        case "tags":
            return " ".join(row.tags)
        case _ if column.startswith("pass@1."):
            score = row.scores.get(column.removeprefix("pass@1."))
            return "" if score is None else f"{score:.3f}"
        case _ if column in row.metrics:
            return f"{row.metrics[column]:.6g}"
    value = getattr(run, column, None)
    return "" if value is None else str(value)


def print_csv(page: "Page", columns: tuple[str, ...]) -> None:
    """The page as CSV on stdout."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([cell(row, column) for column in columns] for row in page.rows)


def print_page(page: "Page", columns: tuple[str, ...]) -> None:
    """The page as a table for a person, and what its filter could not have matched."""
    for hint in page.hints:
        console.print(f"note: {hint}", markup=False, soft_wrap=True)
    if not page.rows:
        console.print("No runs." if page.total == 0 else f"No more than {page.total} runs.")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=column not in {"name", "tags"}, overflow="fold")
    for row in page.rows:
        style = _STYLES.get(row.run.status, "")
        table.add_row(*(cell(row, column) for column in columns), style=style)
    print_table(table)
    if page.total > len(page.rows):
        first = page.offset + 1
        console.print(
            f"{first} to {page.offset + len(page.rows)} of {page.total} (--limit, --offset)"
        )


def print_fields() -> None:
    """What a filter may name."""
    from db.fields import FILTER_FIELDS

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("field", no_wrap=True)
    table.add_column("means")
    for name, meaning in FILTER_FIELDS.items():
        table.add_row(name, meaning)
    print_table(table)
