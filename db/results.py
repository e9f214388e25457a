"""What a run brought: scores, verdicts, artifacts and notices."""

from pathlib import Path

from sqlalchemy import Connection, select, text

from db import tables
from db.records import ArtifactRecord, NoticeRecord, ScoreRecord, VerdictRecord


def scores(connection: Connection, run_id: str) -> list[ScoreRecord]:
    """The scores of a run, by task."""
    t = tables.task_score.c
    rows = connection.execute(
        select(t.task, t.passed, t.total, t.pass_at_1, t.at)
        .where(t.run_id == run_id)
        .order_by(t.task)
    )
    return [ScoreRecord(*row) for row in rows]


def verdicts(connection: Connection, run_id: str, task: str) -> list[VerdictRecord]:
    """The verdicts of one task of a run, in the order of questions and samples."""
    t = tables.verdict.c
    rows = connection.execute(
        select(t.index, t.task_id, t.passed, t.status, t.seconds, t.detail, t.sample)
        .where(t.run_id == run_id, t.task == task)
        .order_by(t.index, t.sample)
    )
    return [VerdictRecord(*row) for row in rows]


def artifacts(connection: Connection, run_id: str) -> list[ArtifactRecord]:
    """What a run wrote, oldest first."""
    t = tables.artifact.c
    rows = connection.execute(
        select(t.kind, t.path, t.sha256, t.size, t.at)
        .where(t.run_id == run_id)
        .order_by(t.at, t.kind, t.path)
    )
    return [ArtifactRecord(*row) for row in rows]


def maker_of(connection: Connection, path: Path) -> str | None:
    """The run that last recorded ``path``, or a folder that it lies in, as its artifact."""
    t = tables.artifact.c
    places = [str(place) for place in (path, *path.parents)]
    found = connection.execute(
        select(t.run_id).where(t.path.in_(places)).order_by(t.at.desc()).limit(1)
    )
    return found.scalar()


def notices(connection: Connection, run_id: str) -> list[NoticeRecord]:
    """What a run had to say, oldest first."""
    t = tables.notice.c
    rows = connection.execute(
        select(t.level, t.text, t.at).where(t.run_id == run_id).order_by(t.at)
    )
    return [NoticeRecord(*row) for row in rows]


_SUM_UP = text(
    "UPDATE run SET "
    "pass_at_1 = (SELECT avg(pass_at_1) FROM task_score WHERE run_id = :run), "
    "scored = (SELECT count(*) FROM task_score WHERE run_id = :run) WHERE id = :run"
)


def sum_up_scores(connection: Connection, run_id: str) -> None:
    """Bring the run's mean pass@1 up to date; to be done wherever scores are written."""
    connection.execute(_SUM_UP, {"run": run_id})
