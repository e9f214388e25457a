"""The mean pass@1 and the number of scored tasks stand in the run, so that a list of thousands of
runs sorts by them without reading every score.

Revision 0002, after 0001.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the columns, before the long texts, and fill them from the scores."""
    with op.batch_alter_table("run", recreate="always") as table:
        table.add_column(sa.Column("pass_at_1", sa.Float()), insert_after="trashed_at")
        table.add_column(
            sa.Column("scored", sa.Integer(), server_default=sa.text("0"), nullable=False),
            insert_after="pass_at_1",
        )
    op.execute(
        "UPDATE run SET "
        "pass_at_1 = (SELECT avg(pass_at_1) FROM task_score WHERE run_id = run.id), "
        "scored = (SELECT count(*) FROM task_score WHERE run_id = run.id)"
    )
