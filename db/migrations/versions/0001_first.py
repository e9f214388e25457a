"""The first schema: runs, what they wrote, their scores, verdicts and metrics.

Revision 0001. Never changed again: it says what the stores of the first version look like.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "metric_key",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "run",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("name", sa.String(), server_default=sa.text("''"), nullable=False),
        sa.Column("status", sa.String(), server_default=sa.text("'queued'"), nullable=False),
        sa.Column("created_at", sa.Float(), server_default=sa.text("0"), nullable=False),
        sa.Column("started_at", sa.Float(), nullable=True),
        sa.Column("ended_at", sa.Float(), nullable=True),
        sa.Column("exit_code", sa.Integer(), nullable=True),
        sa.Column("parent_id", sa.String(), nullable=True),
        sa.Column("replay_of", sa.String(), nullable=True),
        sa.Column("host", sa.String(), server_default=sa.text("''"), nullable=False),
        sa.Column("boot_id", sa.String(), server_default=sa.text("''"), nullable=False),
        sa.Column("supervisor_pid", sa.Integer(), nullable=True),
        sa.Column("supervisor_started", sa.Float(), nullable=True),
        sa.Column("job_pid", sa.Integer(), nullable=True),
        sa.Column("job_started", sa.Float(), nullable=True),
        sa.Column("heartbeat_at", sa.Float(), nullable=True),
        sa.Column("stage", sa.String(), server_default=sa.text("''"), nullable=False),
        sa.Column("done", sa.Integer(), nullable=True),
        sa.Column("total", sa.Integer(), nullable=True),
        sa.Column("unit", sa.String(), server_default=sa.text("''"), nullable=False),
        sa.Column("attempt", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("events_offset", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("events_seq", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("trashed_at", sa.Float(), nullable=True),
        sa.Column("model_name", sa.String(), server_default=sa.text("''"), nullable=False),
        sa.Column("data_fingerprint", sa.String(), server_default=sa.text("''"), nullable=False),
        sa.Column("folder", sa.String(), server_default=sa.text("''"), nullable=False),
        sa.Column("config_hash", sa.String(), server_default=sa.text("''"), nullable=False),
        sa.Column("message", sa.String(), server_default=sa.text("''"), nullable=False),
        sa.Column("note", sa.String(), server_default=sa.text("''"), nullable=False),
        sa.Column("command", sa.String(), server_default=sa.text("'[]'"), nullable=False),
        sa.Column("summary", sa.String(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("config", sa.String(), server_default=sa.text("'{}'"), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_run_created_at"), "run", ["created_at"], unique=False)
    op.create_index(op.f("ix_run_parent_id"), "run", ["parent_id"], unique=False)
    op.create_index(op.f("ix_run_replay_of"), "run", ["replay_of"], unique=False)
    op.create_index(op.f("ix_run_status"), "run", ["status"], unique=False)
    op.create_table(
        "artifact",
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("sha256", sa.String(), server_default=sa.text("''"), nullable=False),
        sa.Column("size", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("at", sa.Float(), server_default=sa.text("0"), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", "kind", "path"),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_artifact_sha256"), "artifact", ["sha256"], unique=False)
    op.create_table(
        "latest_metric",
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("key_id", sa.Integer(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("value", sa.Float(), nullable=True),
        sa.Column("flag", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("at", sa.Float(), server_default=sa.text("0"), nullable=False),
        sa.ForeignKeyConstraint(
            ["key_id"],
            ["metric_key.id"],
        ),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", "key_id"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "metric",
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("key_id", sa.Integer(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("value", sa.Float(), nullable=True),
        sa.Column("flag", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("at", sa.Float(), server_default=sa.text("0"), nullable=False),
        sa.ForeignKeyConstraint(
            ["key_id"],
            ["metric_key.id"],
        ),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", "key_id", "step"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_metric_flagged",
        "metric",
        ["run_id", "key_id"],
        unique=False,
        sqlite_where=sa.text("flag != 0"),
    )
    op.create_table(
        "notice",
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("text", sa.String(), nullable=False),
        sa.Column("level", sa.String(), server_default=sa.text("'info'"), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", "at", "text"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "tag",
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", "name"),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_tag_name"), "tag", ["name"], unique=False)
    op.create_table(
        "task_score",
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("passed", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("total", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("pass_at_1", sa.Float(), server_default=sa.text("0"), nullable=False),
        sa.Column("at", sa.Float(), server_default=sa.text("0"), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", "task"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "verdict",
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("index", sa.Integer(), nullable=False),
        sa.Column("task_id", sa.String(), server_default=sa.text("''"), nullable=False),
        sa.Column("passed", sa.Boolean(), server_default=sa.text("0"), nullable=False),
        sa.Column("status", sa.String(), server_default=sa.text("''"), nullable=False),
        sa.Column("seconds", sa.Float(), server_default=sa.text("0"), nullable=False),
        sa.Column("detail", sa.String(), server_default=sa.text("''"), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", "task", "index"),
        sqlite_with_rowid=False,
    )
