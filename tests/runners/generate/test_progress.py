"""Rates and time left count what generation takes, not what came before it."""

from pathlib import Path

import pytest

from runners.benchmarks.demo import demo_benchmarks
from runners.config import GenerateConfig
from runners.generate.engine import Completion
from runners.generate.ledger import Ledger
from runners.generate.plan import make_plan
from runners.generate.progress import Progress
from runners.lifecycle.events import EventWriter, Metrics, read_events


class Clock:
    """A clock that is set by hand."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_time_that_a_model_takes_to_load_is_no_part_of_the_rates(tmp_path: Path) -> None:
    config = GenerateConfig(model="m", model_name="m", benchmarks=demo_benchmarks())
    plan = make_plan(config)
    ledger, clock = Ledger(tmp_path, "m", plan.questions), Clock()
    with EventWriter(tmp_path / "events.jsonl") as events:
        progress = Progress(plan, ledger, events, tmp_path, "<|im_end|>", clock, clock)
        # A minute of loading, then four answers in ten seconds.
        clock.now = 170.0
        requests = plan.requests()
        for request, at in zip(requests[:4], (164.0, 166.0, 168.0, 170.0), strict=True):
            ledger.append(
                Completion(
                    task=request.task,
                    index=request.index,
                    completion="",
                    tokens=50,
                    seconds=at - 160.0,
                    at=at,
                )
            )
        progress.tick()
    ledger.close()
    said = [event for event, _ in read_events(tmp_path / "events.jsonl")]
    (told,) = [event.values for event in said if isinstance(event, Metrics)]
    assert told == {
        "questions_per_second": pytest.approx(0.4),
        "tokens_per_second": pytest.approx(20.0),
        "seconds_left": pytest.approx(22 / 0.4),
    }
