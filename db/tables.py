"""The tables: entities as SQLModel classes, series as plain Core tables.

A series is millions of rows of six columns that are only ever written in batches and read by range;
an object for each would cost more than the row. Long texts stand last in ``run``, because SQLite
reads a row from the front: a scan that filters by status never touches the pages of the configs.

A change here needs a migration in ``db/migrations/versions``; a test compares the two.
"""

from typing import Any, ClassVar

from sqlalchemy import Column, Float, ForeignKey, Index, Integer, MetaData, String, Table, text
from sqlmodel import Field, SQLModel


def _column(default: Any, meaning: str, *, server: str | None = None, **options: Any) -> Any:
    """A column with its meaning, which the schema's documentation prints."""
    column: dict[str, Any] = {"comment": meaning}
    if server is not None:
        column["server_default"] = text(server)
    return Field(default=default, sa_column_kwargs=column, **options)


def _key(meaning: str, **options: Any) -> Any:
    return Field(primary_key=True, sa_column_kwargs={"comment": meaning}, **options)


def _run_key() -> Any:
    return _key("The run.", foreign_key="run.id", ondelete="CASCADE")


def _options(comment: str) -> dict[str, Any]:
    """Rows that are found by their whole key live in the key's own tree."""
    return {"comment": comment, "sqlite_with_rowid": False}


class Entity(SQLModel):
    """Base of our tables, with a MetaData of their own: another library in the same process may
    use SQLModel too, and its tables are none of our business."""

    metadata: ClassVar[MetaData] = MetaData(
        naming_convention={"ix": "ix_%(table_name)s_%(column_0_N_name)s"}
    )


class Run(Entity, table=True):
    """One run; the columns are those of ``RunRecord``, in its order."""

    __tablename__ = "run"
    __table_args__ = (
        Index(None, "created_at"),
        Index(None, "status"),
        Index(None, "parent_id"),
        Index(None, "replay_of"),
        {"comment": "One run, from the moment it was asked for."},
    )

    id: str = _key("Short id; its first characters are the time it was made.")
    kind: str = _column(..., "Job: train, merge, convert, generate, evaluate, export.")
    name: str = _column("", "Name for people.", server="''")
    status: str = _column(
        "queued", "queued running stopping finished failed stopped crashed", server="'queued'"
    )
    created_at: float = _column(0.0, "When it was asked for.", server="0")
    started_at: float | None = _column(None, "When its job began.")
    ended_at: float | None = _column(None, "When its job ended.")
    exit_code: int | None = _column(None, "Exit status of the job.")
    parent_id: str | None = _column(None, "The run whose results it continues.")
    replay_of: str | None = _column(None, "The run it repeats.")
    host: str = _column("", "Machine it runs on.", server="''")
    boot_id: str = _column("", "That machine's boot, against pids used again.", server="''")
    supervisor_pid: int | None = _column(None, "The supervisor's process.")
    supervisor_started: float | None = _column(None, "That process's start time.")
    job_pid: int | None = _column(None, "The job's process.")
    job_started: float | None = _column(None, "That process's start time.")
    heartbeat_at: float | None = _column(None, "Last sign of life of the supervisor.")
    stage: str = _column("", "Progress: what it is doing.", server="''")
    done: int | None = _column(None, "Progress: units behind it.")
    total: int | None = _column(None, "Progress: units in all, where known.")
    unit: str = _column("", "Progress: the unit.", server="''")
    attempt: int = _column(1, "1, and one more each time it is resumed.", server="1")
    events_offset: int = _column(0, "Bytes of events.jsonl that are in here.", server="0")
    events_seq: int = _column(0, "Sequence number of the last event in here.", server="0")
    trashed_at: float | None = _column(None, "When it was moved to the trash.")
    pass_at_1: float | None = _column(None, "Mean pass@1 over the scored tasks.")
    scored: int = _column(0, "Tasks that have a score.", server="0")
    model_name: str = _column("", "Model it trains or uses.", server="''")
    data_fingerprint: str = _column("", "Content hash of its data.", server="''")
    folder: str = _column("", "Its run folder.", server="''")
    config_hash: str = _column("", "Hash of the resolved config.", server="''")
    message: str = _column("", "Last error or notice.", server="''")
    note: str = _column("", "What a person wrote about it.", server="''")
    command: str = _column("[]", "Launch line, a JSON list.", server="'[]'")
    summary: str = _column("{}", "What the job said at its end, JSON.", server="'{}'")
    config: str = _column("{}", "Resolved config, JSON.", server="'{}'")


class Artifact(Entity, table=True):
    """A file or folder that a run wrote."""

    __tablename__ = "artifact"
    __table_args__ = (Index(None, "sha256"), _options("A file or folder that a run wrote."))

    run_id: str = _run_key()
    kind: str = _key("What it is: adapter, checkpoint, generations, zip, …")
    path: str = _key("Relative to the run folder, or absolute.")
    sha256: str = _column("", "Content hash.", server="''")
    size: int = _column(0, "Bytes.", server="0")
    at: float = _column(0.0, "When it was recorded.", server="0")


class Tag(Entity, table=True):
    """A word that a person hung on a run."""

    __tablename__ = "tag"
    __table_args__ = (Index(None, "name"), _options("A word that a person hung on a run."))

    run_id: str = _run_key()
    name: str = _key("The tag.")


class TaskScore(Entity, table=True):
    """A task's pass@1 in a run."""

    __tablename__ = "task_score"
    __table_args__ = _options("A task's pass@1 in a run.")

    run_id: str = _run_key()
    task: str = _key("One of the 13 tasks.")
    passed: int = _column(0, "Questions passed.", server="0")
    total: int = _column(0, "Questions asked.", server="0")
    pass_at_1: float = _column(0.0, "pass@1 in [0, 1].", server="0")
    at: float = _column(0.0, "When it was scored.", server="0")


class Verdict(Entity, table=True):
    """What became of one sample of one question."""

    __tablename__ = "verdict"
    __table_args__ = _options("What became of one sample of one question.")

    run_id: str = _run_key()
    task: str = _key("One of the 13 tasks.")
    index: int = _key("The question's number in its task, from 0.")
    sample: int = _key("Which of the question's generations, from 0.")
    task_id: str = _column("", "The benchmark's own name for the question.", server="''")
    passed: bool = _column(False, "Whether the tests passed.", server="0")
    status: str = _column(
        "",
        "passed wrong compile_error runtime_error timeout output_limit memory_limit sandbox_error",
        server="''",
    )
    seconds: float = _column(0.0, "CPU seconds it took.", server="0")
    detail: str = _column("", "Last words of the program.", server="''")


class Notice(Entity, table=True):
    """A sentence that a run had for the person. The key is all of it but the level, so that
    reading the same event twice leaves one row."""

    __tablename__ = "notice"
    __table_args__ = _options("A sentence that a run had for the person.")

    run_id: str = _run_key()
    at: float = _key("When it was said.")
    text: str = _key("The sentence.")
    level: str = _column("info", "info warning error", server="'info'")


class MetricKey(Entity, table=True):
    """A metric's name, once, so that a value carries a small number instead."""

    __tablename__ = "metric_key"
    __table_args__: ClassVar[dict[str, Any]] = {"comment": "A metric's name, once."}

    id: int | None = Field(
        default=None, primary_key=True, sa_column_kwargs={"comment": "Small number."}
    )
    name: str = _column(..., "The name, such as loss.", unique=True)


def _series(name: str, comment: str, *, one_a_step: bool) -> Table:
    """A table of metric values. ``value`` is NULL and ``flag`` set where a number would not
    survive: SQLite stores NaN as NULL, and a plain NULL could not say which of the three it was."""
    return Table(
        name,
        Entity.metadata,
        Column(
            "run_id",
            String,
            ForeignKey("run.id", ondelete="CASCADE"),
            primary_key=True,
            comment="The run.",
        ),
        Column(
            "key_id",
            Integer,
            ForeignKey("metric_key.id"),
            primary_key=True,
            comment="The metric.",
        ),
        Column("step", Integer, primary_key=one_a_step, nullable=False, comment="Optimizer step."),
        Column("value", Float, comment="The value; NULL when flag is not 0."),
        Column(
            "flag",
            Integer,
            nullable=False,
            server_default=text("0"),
            comment="0 a number, 1 NaN, 2 infinity, 3 minus infinity.",
        ),
        Column("at", Float, nullable=False, server_default=text("0"), comment="When."),
        comment=comment,
        sqlite_with_rowid=False,
    )


metric = _series("metric", "Every value of every metric.", one_a_step=True)
latest_metric = _series("latest_metric", "The newest value of each metric.", one_a_step=False)
# NaN and infinities are few and must stay visible in a chart however many points are left out.
Index("ix_metric_flagged", metric.c.run_id, metric.c.key_id, sqlite_where=metric.c.flag != 0)

run = Entity.metadata.tables["run"]
artifact = Entity.metadata.tables["artifact"]
tag = Entity.metadata.tables["tag"]
task_score = Entity.metadata.tables["task_score"]
verdict = Entity.metadata.tables["verdict"]
notice = Entity.metadata.tables["notice"]
metric_key = Entity.metadata.tables["metric_key"]
