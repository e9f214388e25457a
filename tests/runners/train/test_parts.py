"""Schedule, early stopping, tallies, checkpoints on disk: the small parts of the loop."""

import json
import random
from math import inf, isnan, nan
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from runners.errors import MissingInputError
from runners.train.checkpoint import Checkpoint, CheckpointFolder, RandomState
from runners.train.cross_entropy import token_losses
from runners.train.inputs import Inputs
from runners.train.memory import MemoryMeter, is_out_of_memory
from runners.train.model import EmbeddingNoise
from runners.train.module import upcast_trained
from runners.train.schedule import Schedule
from runners.train.speed import step_flops
from runners.train.tally import Interval, StepTally, StepTotals, task_values
from runners.train.validation import EarlyStopping, Losses


@given(st.integers(0, 50), st.integers(1, 300), st.floats(0, 1e-4))
def test_the_rate_rises_to_its_peak_then_falls_to_its_floor(
    warmup: int, total: int, floor: float
) -> None:
    schedule = Schedule("cosine", 1e-3, floor, warmup, warmup + total + 1)
    rates = [schedule.at(step) for step in range(schedule.total)]
    assert rates[:warmup] == sorted(rates[:warmup])
    assert rates[warmup:] == sorted(rates[warmup:], reverse=True)
    assert max(rates) == pytest.approx(1e-3)
    assert rates[-1] == pytest.approx(floor)
    assert min(rates) > 0 or floor == 0


def test_min_lr_does_not_lift_the_warm_up() -> None:
    schedule = Schedule("cosine", 1.0, 0.5, 9, 100)
    assert schedule.at(0) == pytest.approx(0.1)


def test_constant_rates_do_not_decay() -> None:
    assert Schedule("constant", 1.0, 0.0, 10, 100).at(0) == 1.0
    warm = Schedule("constant_with_warmup", 1.0, 0.0, 10, 100)
    assert warm.at(0) < 0.1 < warm.at(99) == 1.0
    linear = Schedule("linear", 1.0, 0.0, 0, 11)
    assert [linear.at(s) for s in (0, 5, 10)] == pytest.approx([1, 0.5, 0])


def losses(*tasks: float, total: float | None = None) -> Losses:
    return Losses(np.array(tasks), float(np.nanmean(tasks)) if total is None else total)


def test_the_total_stops_after_as_many_stalls_as_asked() -> None:
    early = EarlyStopping(["a"], 2, "total")
    assert [early.update(losses(x)) for x in (3.0, 2.0, 2.5, 2.0)] == [True, True, False, False]
    assert early.stalled


def test_each_task_must_stall_by_itself_and_one_without_data_does_not_count() -> None:
    early = EarlyStopping(["a", "b", "c"], 2, "each_task")
    for a, b in ((1, 1), (2, 0.9), (2, 0.8)):
        early.update(losses(a, b, nan))
    assert not early.stalled
    for _ in range(2):
        early.update(losses(2, 0.9, nan))
    assert early.stalled


def test_early_stopping_survives_json() -> None:
    early = EarlyStopping(["a", "b"], 3, "total")
    early.update(losses(1.0, nan))
    other = EarlyStopping(["a", "b"], 3, "total")
    other.restore(json.loads(json.dumps(early.state())))
    assert other == early
    assert other.best_tasks[1] == inf


def test_a_non_finite_validation_is_no_improvement() -> None:
    early = EarlyStopping(["a"], 2, "total")
    assert not early.update(losses(nan, total=nan))
    assert early.best == inf


def test_an_interval_reports_means_by_task() -> None:
    interval = Interval(["a", "b", "c"])
    interval.add(StepTotals(2.0, 0, 10, 50, 6, False, 0.5, (4.0, 9.0, 0.0)), [2, 4, 0], 0.5)
    interval.add(StepTotals(4.0, 0, 10, 50, 2, False, 0.5, (2.0, 0.0, 0.0)), [2, 0, 0], 0.5)
    values = interval.values()
    assert values["loss"] == 3.0
    assert values["loss/a"] == pytest.approx(6 / 4)
    assert values["loss/b"] == pytest.approx(9 / 4)
    assert "loss/c" not in values
    assert values["perplexity/a"] == pytest.approx(np.exp(1.5))
    assert values["trained_tokens_per_second"] == pytest.approx(8)
    assert values["tokens_per_second"] == pytest.approx(20)


def a_step(loss: float, task_sums: list[float]) -> torch.Tensor:
    tally = StepTally(len(task_sums), torch.device("cpu"))
    nothing = torch.empty(0)
    inputs = Inputs({}, nothing, torch.empty(5), nothing, nothing, 8, 30, 5, nothing)
    tally.add(torch.tensor(loss), torch.tensor(task_sums, dtype=torch.float64), inputs)
    return tally.vector(stopping=False, seconds=0.5)


def test_a_step_whose_loss_is_not_finite_costs_time_but_does_not_spoil_the_interval() -> None:
    interval = Interval(["a", "b"])
    good, bad = a_step(2.0, [4.0, 9.0]), a_step(nan, [nan, 1.0])
    over_two_ranks = StepTotals.read(good + bad)
    assert over_two_ranks.bad_ranks == 1
    assert over_two_ranks.loss == 2.0
    assert over_two_ranks.task_sums == (4.0, 9.0)
    interval.add(StepTotals.read(good), [2, 4], 0.5)
    interval.add(over_two_ranks, [4, 8], 0.5)
    values = interval.values()
    assert values["loss"] == 2.0
    assert values["loss/a"] == 2.0
    assert values["trained_tokens/b"] == 4
    assert values["tokens_per_second"] == 24
    interval.reset()
    interval.add(over_two_ranks, [4, 8], 0.5)
    assert "loss" not in interval.values()


def test_a_perplexity_too_large_for_a_float_is_infinite() -> None:
    assert task_values("", "a", 1000.0)["perplexity/a"] == inf
    assert isnan(task_values("", "a", nan)["loss/a"])


def test_losses_in_chunks_equal_those_in_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    head = torch.nn.Linear(8, 50)
    hidden = torch.randn(23, 8, requires_grad=True)
    targets = torch.randint(0, 50, (23,))
    whole = token_losses(hidden, targets, head, 50)
    whole.sum().backward()
    gradients = hidden.grad.clone(), head.weight.grad.clone()  # type: ignore[union-attr]
    hidden.grad = head.weight.grad = None
    monkeypatch.setattr("runners.train.cross_entropy.CHUNK_LOGITS", 200)
    parts = token_losses(hidden, targets, head, 50)
    parts.sum().backward()
    assert torch.allclose(parts, whole, atol=1e-6)
    assert torch.allclose(hidden.grad, gradients[0])  # type: ignore[arg-type]
    assert torch.allclose(head.weight.grad, gradients[1], atol=1e-6)  # type: ignore[arg-type]


def test_the_noise_of_an_embedding_goes_by_its_own_sample_and_not_by_what_is_packed_beside() -> (
    None
):
    noise, embedding = EmbeddingNoise(5.0), torch.nn.Embedding(10, 64)
    embedding.register_forward_hook(noise)
    noise.lengths = torch.tensor([[4] * 4 + [100] * 100])
    ids = torch.zeros(1, 104, dtype=torch.long)
    moved = (embedding(ids) - embedding.weight[0]).abs().amax(-1)[0]
    for part, length in ((moved[:4], 4), (moved[4:], 100)):
        limit = 5 / (length * 64) ** 0.5
        assert 0.9 * limit < part.max() <= limit * 1.001
    assert torch.equal(embedding.eval()(ids)[0, 0], embedding.weight[0])


def test_what_is_trained_beside_the_adapters_is_kept_in_float32() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)).bfloat16()
    model[0].requires_grad_(False)
    upcast_trained(model)
    assert [p.dtype for p in model.parameters()] == 2 * [torch.bfloat16] + 2 * [torch.float32]


def test_half_precision_logits_are_lost_no_more_than_float32_loses() -> None:
    head = torch.nn.Linear(8, 50).bfloat16()
    hidden = torch.randn(5, 8).bfloat16()
    assert token_losses(hidden, torch.zeros(5, dtype=torch.long), head, 50).dtype == torch.float32


def test_lora_counts_four_and_full_six_operations_an_entry() -> None:
    model = {
        "model_type": "qwen2", "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1,
        "num_attention_heads": 2, "num_key_value_heads": 2, "vocab_size": 10,
    }  # fmt: skip
    weights = 4 * 64 + 3 * 128
    counted = {
        full: step_flops(model, full=full, tokens=100, squares=0, trained=20)
        for full in (True, False)
    }
    assert counted[True] == 6 * (100 * weights + 20 * 80)
    assert counted[False] == 4 * (100 * weights + 20 * 80)
    with_attention = step_flops(model, full=True, tokens=0, squares=1000, trained=0)
    assert with_attention == 6 * 1000 * 8


def test_what_torch_says_of_full_memory_is_recognized() -> None:
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"))
    assert is_out_of_memory(RuntimeError("CUDA error: out of memory"))
    assert is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"))
    assert not is_out_of_memory(RuntimeError("shapes differ"))


def write(folder: CheckpointFolder, step: int, *, best: bool = False) -> Checkpoint:
    tensors = [("w", {"weight": torch.full((2,), float(step)), "exp_avg": torch.zeros(2)})]
    state = RandomState.now(torch.device("cpu"))
    position = {"position": {"step": step}}
    return folder.write(step, tensors, state, position, rank=0, wait=lambda: None, best=best)


def test_the_meter_tells_the_tensors_that_were_held_and_not_the_libraries() -> None:
    meter = MemoryMeter(torch.device("cpu"))
    before = meter.peak()  # earlier tests in this process may have held more
    held = torch.ones((before >> 2) + (128 << 20), dtype=torch.float32)
    at_most = held.nbytes + (64 << 20)
    del held
    assert at_most - (96 << 20) < meter.peak() < at_most


def test_the_newest_are_kept_and_the_best_besides(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path / "c", keep=2)
    for step in range(1, 7):
        write(folder, step, best=step == 2)
    assert [c.step for c in folder.all()] == [2, 5, 6]
    best = folder.best()
    assert best is not None
    assert dict(best.tensors())["w"]["weight"].tolist() == [2.0, 2.0]
    assert not list((tmp_path / "c").glob(".*"))


def test_a_kill_in_the_middle_of_saving_leaves_the_one_before(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path / "c", keep=None)
    write(folder, 1)

    class Killed(BaseException):
        pass

    class Stream:
        def __iter__(self) -> "object":
            yield "w", {"weight": torch.zeros(1)}
            raise Killed

    with pytest.raises(Killed):
        folder.write(
            2,
            Stream(),  # type: ignore[arg-type]
            RandomState.now(torch.device("cpu")),
            {"position": {"step": 2}},
            rank=0,
            wait=lambda: None,
        )
    newest = folder.newest()
    assert newest is not None
    assert newest.step == 1
    write(folder, 3)
    assert [c.step for c in folder.all()] == [1, 3]
    assert not list((tmp_path / "c").glob(".*")), "the torn one is swept away"


def test_a_folder_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="no whole checkpoint"):
        Checkpoint(tmp_path).state()


def test_random_states_come_back(tmp_path: Path) -> None:
    RandomState.now(torch.device("cpu")).save(tmp_path / "r.safetensors")
    drawn = torch.rand(3), random.random(), np.random.rand()
    RandomState.load(tmp_path / "r.safetensors").set(torch.device("cpu"))
    again = torch.rand(3), random.random(), np.random.rand()
    assert torch.equal(drawn[0], again[0])
    assert drawn[1:] == again[1:]
