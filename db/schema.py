"""The schema's versions: making it new, recognizing it, and bringing an old one up to date.

A new store is made from the tables as they are and stamped; only an old one loads Alembic. The
version stands in a table of our own name, so that another tool's Alembic cannot take it for its
own.
"""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import (
    Column,
    Connection,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    inspect,
    select,
)
from sqlalchemy import insert as insert_into
from sqlalchemy.exc import SQLAlchemyError

from db.engine import Database
from db.errors import StoreError, StoreNewerError
from db.tables import Entity

MIGRATIONS = Path(__file__).parent / "migrations"
VERSIONS = ("0001", "0002", "0003")
"""Every version there has been, oldest first; a test compares it with the migrations."""
HEAD = VERSIONS[-1]
VERSION_TABLE = "mft_schema_version"

_version = Table(
    VERSION_TABLE,
    MetaData(),
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name=f"{VERSION_TABLE}_pkc"),
)


def read_version(connection: Connection, path: Path) -> str | None:
    """The store's version; None for an empty file.

    Raises ``StoreError`` when the file has tables but none of ours.
    """
    names = set(inspect(connection).get_table_names())
    if VERSION_TABLE in names:
        return connection.execute(select(_version.c.version_num)).scalar()
    if names:
        raise StoreError(
            "this is a database, but not one of mft-tui "
            f"(it has the tables {', '.join(sorted(names)[:5])})",
            where=str(path),
            fix="Point MFT_HOME at a folder of its own.",
        )
    return None


def create(connection: Connection) -> None:
    """Make every table, and stamp the newest version."""
    Entity.metadata.create_all(connection)
    _version.create(connection)
    connection.execute(insert_into(_version).values(version_num=HEAD))


def check_known(version: str, path: Path, versions: tuple[str, ...] = VERSIONS) -> None:
    """Raise ``StoreNewerError`` for a version that this program has never heard of."""
    if version not in versions:
        raise StoreNewerError(
            f"the store was written by a newer mft-tui (schema {version}; this one knows "
            f"{versions[-1]})",
            where=str(path),
            fix="Upgrade mft-tui (`pip install -U mft-tui`), or point MFT_HOME elsewhere.",
        )


def upgrade(database: Database, version: str, migrations: Path = MIGRATIONS) -> Path:
    """Bring the store from ``version`` to the newest; return the backup that was made before.

    All migrations run in one transaction: either the store is new, or it is as it was.
    """
    saved = backup(database.path, version)
    try:
        with database.writing() as connection:
            _run_migrations(connection, migrations)
    except (SQLAlchemyError, StoreError) as error:
        raise StoreError(
            f"bringing the store up to date failed and was undone ({error})",
            where=str(database.path),
            fix=f"The store is as it was; a copy is {saved}. Please report this.",
        ) from error
    return saved


def backup(path: Path, version: str) -> Path:
    """Copy the store as it is now, whoever else has it open; return the copy's path."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    target = path.with_name(f"{path.name}.{version}-{stamp}.backup")
    try:
        with (
            closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as source,
            closing(sqlite3.connect(target)) as copy,
        ):
            source.backup(copy)
    except sqlite3.Error:
        # Half a backup would be taken for one.
        target.unlink(missing_ok=True)
        raise
    return target


def _run_migrations(connection: Connection, migrations: Path) -> None:
    # Alembic takes half as long to import as the rest together, and is hardly ever needed.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(migrations).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
