"""The demo's data set: chat records that teach the answers to the demo benchmark.

Three task folders, as a person would have them: writing functions, fixing them, and the basic
Python problems. A record's turns are exactly what generation asks in the chatml format, so a model
that has learned the records answers the benchmark.
"""

import json
from collections import defaultdict
from pathlib import Path

from runners.benchmarks.demo import ideal_answers
from runners.benchmarks.prompts import PromptStyle
from runners.benchmarks.tasks import get_task

_FOLDERS = {
    "humanevalsynthesize": "write-functions",
    "humanevalfixtests": "fix-functions",
    "mbpp": "basic-problems",
}


def write_demo_data(folder: Path) -> list[Path]:
    """Write the task folders under ``folder`` and return them; the same bytes every time."""
    lines: dict[Path, list[str]] = defaultdict(list)
    for answer in ideal_answers(PromptStyle(format="chatml")):
        task = get_task(answer.task)
        path = folder / _FOLDERS[task.family] / f"{task.language}.jsonl"
        record = {
            "id": f"{answer.task}/{answer.index}",
            "data_name": path.parent.name,
            "chat_rounds": [
                {"role": "human", "content": answer.user, "chat_round_id": 1},
                {"role": "bot", "content": answer.bot, "chat_round_id": 1},
            ],
        }
        lines[path].append(json.dumps(record))
    for path, content in lines.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(content) + "\n", encoding="utf-8")
    return sorted({path.parent for path in lines})
