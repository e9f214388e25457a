"""The order of data: all of it once an epoch, from any position, on any number of ranks."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runners.config import TrainConfig
from runners.data.cache import build_cache
from runners.data.token_cache import TokenCache
from runners.train.memory import cut_smaller
from runners.train.order import DataOrder, Position, Spread

THREE = Spread(ranks=1, micro_batch=3, accumulation=2)


@pytest.fixture(scope="module")
def cache(material: Any) -> TokenCache:
    return build_cache(settings(material), material.model)


def settings(material: Any, **more: Any) -> TrainConfig:
    values = {
        "data_paths": material.tasks,
        "pretrained_model_path": str(material.model),
        "cache_dir": material.cache,
        "seq_length": 96,
        "num_workers": 1,
    }
    return TrainConfig(**{**values, **more})


def samples_of(plan: Any) -> list[int]:
    return [int(i) for row in plan.all_rows() for i in row]


@pytest.mark.parametrize("mode", ["padding", "pack"])
def test_every_sample_is_seen_once_an_epoch(material: Any, cache: TokenCache, mode: str) -> None:
    config = settings(material, padding_mode=mode, num_train_epochs=2)
    seen = Counter(
        i
        for plan in DataOrder(cache, np.arange(len(cache)), config, THREE)
        for i in samples_of(plan)
    )
    assert seen == Counter(dict.fromkeys(range(len(cache)), 2))


def test_going_on_from_a_saved_position_gives_the_same_steps(
    material: Any, cache: TokenCache
) -> None:
    config = settings(material, padding_mode="pack", num_train_epochs=3)
    samples = np.arange(len(cache))
    whole = [samples_of(plan) for plan in DataOrder(cache, samples, config, THREE)]
    order = DataOrder(cache, samples, config, THREE)
    first = [samples_of(plan) for plan, _ in zip(order, range(7), strict=False)]
    # zip has asked for one more than it gave.
    order.take_back()
    saved = Position.from_json(order.position.to_json())
    assert saved.step == 7
    rest = [samples_of(plan) for plan in DataOrder(cache, samples, config, THREE, saved)]
    assert first + rest == whole


@pytest.mark.parametrize("mode", ["padding", "pack"])
def test_another_number_of_ranks_trains_what_was_left_of_the_epoch(
    material: Any, cache: TokenCache, mode: str
) -> None:
    config = settings(material, padding_mode=mode, num_train_epochs=1)
    samples = np.arange(len(cache))
    before = DataOrder(cache, samples, config, THREE)
    seen = []
    for plan in before:
        seen += samples_of(plan)
        if before.position.step == 2:
            break
    after = DataOrder(cache, samples, config, Spread(2, 2, 1), before.position)
    for plan in after:
        assert len(plan.rows) == 2
        seen += samples_of(plan)
    assert Counter(seen) == Counter(range(len(cache)))
    assert after.position.step == after.total


def test_another_number_of_ranks_trains_what_was_left_of_joined_text(
    material: Any, cache: TokenCache
) -> None:
    config = settings(material, padding_mode="concat", num_train_epochs=1, seq_length=24)
    samples = np.arange(len(cache))
    order = DataOrder(cache, samples, config, THREE)
    assert order.total > 6
    seen: list[tuple[int, int]] = []
    for spread in (Spread(2, 2, 1), Spread(3, 1, 1), None):
        for plan in order:
            for row in plan.all_rows():
                seen += [(i, at) for i, start, stop in row.tolist() for at in range(start, stop)]
            if spread and order.position.step % 2 == 0:
                break
        saved = Position.from_json(order.position.to_json())
        order = DataOrder(cache, samples, config, spread or THREE, saved)
    assert Counter(seen) == Counter((i, at) for i in samples for at in range(cache.lengths[i]))


def test_max_train_steps_ends_a_run_in_mid_epoch(material: Any, cache: TokenCache) -> None:
    config = settings(material, num_train_epochs=5, max_train_steps=4)
    order = DataOrder(cache, np.arange(len(cache)), config, THREE)
    assert order.total == 4
    assert len(list(order)) == 4


def test_half_an_epoch_is_half_its_steps(material: Any, cache: TokenCache) -> None:
    whole = DataOrder(cache, np.arange(len(cache)), settings(material), THREE).total
    config = settings(material, num_train_epochs=1.5)
    assert DataOrder(cache, np.arange(len(cache)), config, THREE).total == whole + -(-whole // 2)


def test_a_step_that_did_not_fit_is_done_again_in_smaller_pieces(
    material: Any, cache: TokenCache
) -> None:
    config = settings(material)
    order = DataOrder(cache, np.arange(len(cache)), config, Spread(1, 4, 2))
    seen: list[int] = []
    for plan in order:
        if order.position.step == 3 and order.spread.micro_batch == 4:
            smaller = cut_smaller(order.spread)
            assert smaller == Spread(1, 2, 4)
            order.take_back()
            order.respread(smaller)
            continue
        seen += samples_of(plan)
    assert Counter(seen) == Counter(range(len(cache)))


@pytest.mark.parametrize("mode", ["padding", "pack"])
@pytest.mark.parametrize("done", [0, 3])
def test_steps_cut_smaller_take_the_same_samples(
    material: Any, cache: TokenCache, mode: str, done: int
) -> None:
    config = settings(material, padding_mode=mode, num_train_epochs=1)
    samples, smaller = np.arange(len(cache)), cut_smaller(THREE)
    assert smaller is not None
    whole = [sorted(samples_of(plan)) for plan in DataOrder(cache, samples, config, THREE)]
    order = DataOrder(cache, samples, config, THREE)
    steps = iter(order)
    for _ in range(done + 1):
        next(steps)
    order.take_back()

    order.respread(smaller)

    assert [sorted(samples_of(plan)) for plan in order] == whole[done:]


@pytest.mark.parametrize(("rows", "left"), [(8, 4), (9, 3), (7, 1), (1, None)])
def test_cutting_keeps_the_global_batch(rows: int, left: int | None) -> None:
    smaller = cut_smaller(Spread(2, rows, 3))
    assert (smaller.micro_batch if smaller else None) == left
    if smaller:
        assert smaller.micro_batch * smaller.accumulation == rows * 3


def test_packed_rows_hold_no_more_than_the_row_length(
    material: Any, cache: TokenCache, tmp_path: Path
) -> None:
    config = settings(material, padding_mode="pack")
    for plan in DataOrder(cache, np.arange(len(cache)), config, THREE):
        assert all(cache.lengths[row].sum() <= config.seq_length for row in plan.all_rows())


def test_rows_are_packed_of_one_task_where_asked(material: Any, cache: TokenCache) -> None:
    def mixed(across: bool) -> bool:
        config = settings(material, padding_mode="pack", pack_across_tasks=across)
        plans = DataOrder(cache, np.arange(len(cache)), config, THREE)
        return any(len(set(cache.task_ids[row])) > 1 for plan in plans for row in plan.all_rows())

    assert mixed(True)
    assert not mixed(False)
