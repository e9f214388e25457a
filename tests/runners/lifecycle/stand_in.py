"""A job of a few lines, for tests of what goes on around jobs: it counts, and can misbehave.

What it does is in the environment, so that any kind of config serves:
``STAND_IN=steps=20,pause=0.05,…``. It is resumable: it counts on from the last step in its log.
"""

import os
import signal
import subprocess
import sys
import time

from runners.config import KINDS, EvaluateConfig
from runners.errors import MissingInputError
from runners.lifecycle.events import Metrics, read_events
from runners.lifecycle.job import Job, run_job


def settings() -> dict[str, str]:
    pairs = os.environ.get("STAND_IN", "").split(",")
    return dict(pair.split("=", 1) for pair in pairs if "=" in pair)


def work(job: Job[EvaluateConfig]) -> dict[str, object]:
    asked = settings()
    steps, pause = int(asked.get("steps", 5)), float(asked.get("pause", 0.02))
    if "stubborn" in asked:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if "orphan" in asked:
        # A rank of a launcher: a session of its own, and a parent that is gone.
        subprocess.Popen(
            [sys.executable, "-c", _ORPHAN], start_new_session=True, stdin=subprocess.DEVNULL
        ).wait()
    done = last_step(job)
    print(f"attempt {job.attempt} begins at step {done}", flush=True)
    for step in range(done + 1, steps + 1):
        if job.stopping:
            print("stopping", flush=True)
            break
        if asked.get("fail") == str(step):
            raise MissingInputError("a file went missing", where="data.jsonl", fix="Put it back.")
        if asked.get("bug") == str(step):
            raise ZeroDivisionError("a fault of ours")
        if asked.get("fill") == str(step):
            (job.folder.artifacts.parent / "big").write_bytes(b"x" * (1 << 28))
        job.events.metrics(step, {"loss": 1.0 / step, "lr": 0.1})
        job.events.progress("counting", step, steps, "step")
        print(f"step {step}", flush=True)
        time.sleep(pause)
    else:
        out = job.output_folder(None) / "count.txt"
        out.write_text(f"{steps}\n")
        job.record_artifact("count", out)
        return {"steps": steps}
    return {}


def last_step(job: Job[EvaluateConfig]) -> int:
    return max(
        (e.step for e, _ in read_events(job.folder.events) if isinstance(e, Metrics)), default=0
    )


_ORPHAN = """
import os, time
if os.fork():
    os._exit(0)
os.setsid()
time.sleep(600)
"""

if __name__ == "__main__":
    assert EvaluateConfig.kind in KINDS
    sys.exit(run_job("evaluate", EvaluateConfig, work))
