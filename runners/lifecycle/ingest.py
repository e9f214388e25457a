"""From the event log into the database.

Kept apart from the supervisor because dead runs and imported ones go the same way. How far the log
has been read is committed together with what was read, so an event is in the database once however
often, and from however many processes, a file is ingested.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from runners.lifecycle.events import (
    AnyEvent,
    Artifact,
    Finished,
    Metrics,
    Notice,
    Progress,
    Score,
    read_events,
)
from runners.lifecycle.folders import RunFolder

if TYPE_CHECKING:
    from db import RunWriter, Store, VerdictRecord

BATCH = 5_000
"""Events a transaction: enough to make its cost small, few enough that readers never wait long."""


def ingest(store: "Store", folder: RunFolder) -> int:
    """Bring the database up to the run folder's event log; return how many events were new.

    The run must be in the store. Raises ``db.StoreError`` when the store cannot take them; what was
    committed until then stays, and the next call goes on from there.
    """
    taken = 0
    writer = store.writer(folder.run_id)
    while count := ingest_batch(writer, folder):
        taken += count
    return taken


def ingest_batch(writer: "RunWriter", folder: RunFolder) -> int:
    """Take in at most ``BATCH`` events; return how many, 0 at the end of the log."""
    start = _resume_at(folder.events, writer.events_offset)
    if start is None:
        return 0
    taken, offset, seq = 0, start, writer.events_seq
    try:
        for event, end in read_events(folder.events, start):
            if event.seq > seq:
                _put(writer, event, folder)
                offset, seq = end, event.seq
                taken += 1
            if taken == BATCH:
                break
        if taken:
            writer.commit(events_offset=offset, events_seq=seq)
    except BaseException:
        # They will be read again; kept, they would be written twice.
        writer.discard()
        raise
    return taken


def _resume_at(events: Path, offset: int) -> int | None:
    """The byte to read on from; None when there is nothing new.

    A log that is shorter than it was, or has no line ending where the last one was, was replaced
    (an older copy put back): it is read from the start, and the numbers tell what is new.
    """
    try:
        with events.open("rb") as file:
            size = file.seek(0, 2)
            if size <= offset:
                return None if size == offset or offset == 0 else 0
            file.seek(max(0, offset - 1))
            return offset if offset == 0 or file.read(1) == b"\n" else 0
    except FileNotFoundError:
        return None


def _put(writer: "RunWriter", event: AnyEvent, folder: RunFolder) -> None:
    match event:
        case Metrics():
            writer.metrics(event.step, event.numbers(), event.at)
        case Progress():
            writer.progress(event.stage, event.done, event.total, event.unit)
        case Score():
            writer.score(event.task, event.passed, event.total, event.pass_at_1, event.at)
        case Artifact():
            writer.artifact(event.kind, event.path, event.sha256, event.bytes, event.at)
            if event.kind == "verdicts" and (task := verdict_task(Path(event.path))):
                writer.verdicts(task, read_verdicts(folder.path / event.path))
        case Notice():
            writer.notice(event.level, event.text, event.at)
        case Finished():
            writer.finished(event.summary)
        case _:  # Started: the supervisor tells of beginnings
            pass


def verdict_task(path: Path) -> str | None:
    """The task of a ``verdicts_{task}_{model}.jsonl``; task names hold no underscore."""
    prefix, _, rest = path.name.partition("_")
    task, separator, _ = rest.partition("_")
    return task if prefix == "verdicts" and separator else None


class _VerdictLine(msgspec.Struct):
    index: int
    task_id: str
    passed: bool
    status: str
    seconds: float = 0.0
    detail: str = ""
    sample: int = 0


def read_verdicts(path: Path) -> "list[VerdictRecord]":
    """The verdicts in a file; those after a damaged or torn line too. Empty when it is gone."""
    from db import VerdictRecord

    decoder = msgspec.json.Decoder(_VerdictLine)
    verdicts: dict[tuple[int, int], VerdictRecord] = {}
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return []
    for line in lines:
        try:
            row = decoder.decode(line)
        except msgspec.DecodeError:
            continue
        verdicts[row.index, row.sample] = VerdictRecord(
            row.index, row.task_id, row.passed, row.status, row.seconds, row.detail, row.sample
        )
    return list(verdicts.values())
