"""Which record format a task folder is written in, found out from its first records."""

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice

import msgspec

from runners.data.records import FORMATS, Format
from runners.data.sources import ByteRange, DamagedFileError, DataFile, TaskFolder, read_lines

_LOOK_AT = 64


def recognize(task: TaskFolder) -> Format | None:
    """The format that most of the first records of each file are in; None if none is recognized.

    Lines that are no JSON object do not vote: one broken line at the head must not decide.
    """
    votes: Counter[str] = Counter()
    for file in task.files:
        for record in _first_records(file):
            votes.update(form.name for form in FORMATS if record.keys() >= form.keys)
    if not votes:
        return None
    most = max(votes.values())
    # A record may have the keys of two formats; the one that FORMATS puts first wins the tie.
    return next(form for form in FORMATS if votes[form.name] == most)


def _first_records(file: DataFile) -> Iterator[dict[str, object]]:
    # What a damaged file holds before its damage votes; the damage is told by who reads it all.
    with suppress(DamagedFileError):
        for line in islice(filter(bytes.strip, read_lines(ByteRange(file))), _LOOK_AT):
            try:
                record = msgspec.json.decode(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(record, dict):
                yield record
