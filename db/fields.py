"""The fields of run filters and sorts by name, with what each one means.

Apart from the code that turns them into SQL, so that help texts and shell completion can name them
without loading a database library.
"""

import difflib
from collections.abc import Iterable

FILTER_FIELDS: dict[str, str] = {
    "id": "id:PREFIX",
    "name": "name:TEXT, somewhere in the name; name:try* from its beginning",
    "kind": "kind:train, merge, convert, generate, evaluate or export",
    "status": "status:finished, running, failed, …; commas between alternatives",
    "tag": "tag:NAME",
    "note": "note:TEXT",
    "message": "message:TEXT, in the last error or notice",
    "host": "host:NAME",
    "model": "model:TEXT, in the model's name",
    "data": "data:TEXT, in a data path, or the beginning of the data fingerprint",
    "stage": "stage:TEXT",
    "folder": "folder:TEXT",
    "parent": "parent:PREFIX, the runs that continue that one",
    "replay": "replay:PREFIX, the replays of that one",
    "since": "since:7d or since:2026-11-01, made after that",
    "before": "before:7d or before:2026-11-01, made before that",
    "created": "created>2026-11-01; a span such as 7d is that long ago",
    "started": "started>12h",
    "ended": "ended<2026-11-01T18:00",
    "duration": "duration>90m, of the job, to now while it runs",
    "exit": "exit=0",
    "attempt": "attempt>1",
    "done": "done>=100, units of progress",
    "scored": "scored=13, tasks that have a score",
    "pass@1": "pass@1>0.3, the mean over the scored tasks; pass@1.mbpp for one task",
    "metric": "metric.KEY<1.2, the newest value; loss<1.2 for short",
    "config": "config.learning_rate>1e-4, config.peft_type:lora",
    "is": "is:live, ended, trashed, replay, resumed or root",
    "has": "has:scores, metrics, verdicts, artifacts, notices, tags, note, parent or children",
}

DERIVED_SORTS = ("pass@1", "duration")
"""What runs can be sorted by besides their own columns, pass@1.TASK, config.KEY and metrics."""


def nearest(given: str, known: Iterable[str]) -> str | None:
    """The known name most like the given one; None when none is like it."""
    found = difflib.get_close_matches(given, list(known), n=1, cutoff=0.6)
    return found[0] if found else None
