"""The schema's documentation is written from the tables."""

import subprocess
import sys
from pathlib import Path

from db import tables
from db.schema_doc import schema_markdown


def test_every_table_and_column_is_documented_with_its_meaning() -> None:
    page = schema_markdown()
    for table in tables.Entity.metadata.tables.values():
        assert f"## {table.name}\n" in page
        assert table.comment
        for column in table.columns:
            assert column.comment, f"{table.name}.{column.name} has no meaning"
            assert f"| {column.name} | " in page


def test_it_is_printed_by_the_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "db.schema_doc"], capture_output=True, text=True, check=True
    )
    assert done.stdout == schema_markdown()


def test_the_page_in_the_docs_is_of_these_tables() -> None:
    page = Path(__file__).parents[2] / "docs" / "schema.md"
    assert page.read_text() == schema_markdown(), "python -m db.schema_doc > docs/schema.md"
