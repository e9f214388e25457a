"""A verdict is of one sample of a question, so that all that were judged have a row.

Revision 0003, after 0002.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the table anew with the sample in its key, and number the samples that were kept.

    Of a question with several, only the last one had stayed. The score counts them all, so with
    equally many for every question it tells which one that is; without a score, or with one that
    does not divide, it is called the first. The others are still in the run's verdict files.
    """
    op.create_table(
        "verdict_by_sample",
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("index", sa.Integer(), nullable=False),
        sa.Column("sample", sa.Integer(), nullable=False),
        sa.Column("task_id", sa.String(), server_default=sa.text("''"), nullable=False),
        sa.Column("passed", sa.Boolean(), server_default=sa.text("0"), nullable=False),
        sa.Column("status", sa.String(), server_default=sa.text("''"), nullable=False),
        sa.Column("seconds", sa.Float(), server_default=sa.text("0"), nullable=False),
        sa.Column("detail", sa.String(), server_default=sa.text("''"), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", "task", "index", "sample"),
        sqlite_with_rowid=False,
    )
    op.execute(
        "INSERT INTO verdict_by_sample "
        'SELECT run_id, task, "index", coalesce(known.sample, 0), '
        "task_id, passed, status, seconds, detail "
        "FROM verdict LEFT JOIN ("
        "SELECT run_id, task, score.total / count(*) - 1 AS sample "
        "FROM task_score AS score JOIN verdict USING (run_id, task) "
        "GROUP BY run_id, task HAVING score.total > 0 AND score.total % count(*) = 0"
        ") AS known USING (run_id, task)"
    )
    op.drop_table("verdict")
    op.rename_table("verdict_by_sample", "verdict")
