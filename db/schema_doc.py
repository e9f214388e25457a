"""The schema's documentation, written from the tables themselves: ``python -m db.schema_doc``."""

import sys

from sqlalchemy import Column, Table
from sqlalchemy.dialects import sqlite

from db.schema import HEAD
from db.tables import Entity

_DIALECT = sqlite.dialect()


def schema_markdown() -> str:
    """Every table with its columns, keys and indexes, as Markdown."""
    parts = [f"# The store's tables (schema {HEAD})", "Times are Unix seconds."]
    parts += [_table(table) for table in Entity.metadata.sorted_tables]
    return "\n\n".join(parts) + "\n"


def _table(table: Table) -> str:
    lines = [f"## {table.name}", "", table.comment or "", ""]
    lines += ["| column | type | | meaning |", "| --- | --- | --- | --- |"]
    lines += [_row(column) for column in table.columns]
    indexes = sorted(", ".join(column.name for column in index.columns) for index in table.indexes)
    if indexes:
        lines += ["", f"Indexes: {'; '.join(indexes)}."]
    return "\n".join(lines)


def _row(column: Column[object]) -> str:
    marks = ["key"] if column.primary_key else []
    marks += [f"→ {key.target_fullname}" for key in column.foreign_keys]
    marks += ["may be empty"] if column.nullable else []
    kind = column.type.compile(dialect=_DIALECT).lower()
    return f"| {column.name} | {kind} | {', '.join(marks)} | {column.comment or ''} |"


if __name__ == "__main__":
    sys.stdout.write(schema_markdown())
