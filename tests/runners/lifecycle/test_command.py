"""The command line of a job starts what the config asks for."""

import os
import subprocess
from pathlib import Path

from runners.config import GenerateConfig
from runners.lifecycle.command import job_command

RANK = """
import os
from pathlib import Path
from runners.generate.ranks import Ranks

ranks = Ranks.join(use_cpu=True)
Path(os.environ["SEEN"], str(ranks.rank)).write_text(str(ranks.count))
ranks.finish(lambda: None)
"""


def test_a_generation_on_a_cpu_starts_as_many_ranks_as_it_is_asked_for(tmp_path: Path) -> None:
    config = GenerateConfig(model="m", model_name="m", num_processes=2, use_cpu=True)
    command = job_command(config, tmp_path / "run")
    job = tmp_path / "job.py"
    job.write_text(RANK)
    seen = tmp_path / "seen"
    seen.mkdir()

    done = subprocess.run(
        [*command.argv[: command.argv.index("runners.generate") - 1], str(job)],
        env={**os.environ, **command.env, "SEEN": str(seen)},
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert done.returncode == 0, done.stderr
    assert {rank.name: rank.read_text() for rank in seen.iterdir()} == {"0": "2", "1": "2"}
