"""How Alembic reaches the store. ``db.schema`` passes the connection, already in a transaction;
`alembic revision --autogenerate` (for developers) names a file in ``sqlalchemy.url``."""

from alembic import context
from sqlalchemy import Connection, create_engine

from db.schema import VERSION_TABLE
from db.tables import Entity


def migrate(connection: Connection) -> None:
    """Run the migrations that were asked for on this connection."""
    context.configure(
        connection=connection,
        target_metadata=Entity.metadata,
        version_table=VERSION_TABLE,
        transactional_ddl=True,
        render_as_batch=True,
    )
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    migrate(given)
else:
    with create_engine(context.config.get_main_option("sqlalchemy.url") or "").begin() as own:
        migrate(own)
