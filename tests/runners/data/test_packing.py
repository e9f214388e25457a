"""Packing, plans, mixing and batches: no token lost, doubled, or moved between samples."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runners.data.batch import collate, trained_in_row
from runners.data.concat import cut_to_rows
from runners.data.maskbits import MaskBits, MaskWriter
from runners.data.ordering import keyed_order
from runners.data.overlong import fit_samples
from runners.data.packing import fill, pack_best_fit
from runners.data.plan import plan_epoch
from runners.data.sampling import Sampling, _stream, epoch_samples
from runners.data.split import split_samples
from runners.data.token_cache import OverlongCounts, TokenCache
from runners.errors import UsageError

SEQ = 32


def cache_of(lengths, tasks=None, masks=None) -> TokenCache:
    """A cache in memory whose token ids are all different, so that each can be followed."""
    lengths = np.array(lengths, np.int32)
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    total = int(offsets[-1])
    mask = np.ones(total, bool) if masks is None else np.array(masks, bool)
    task_ids = np.zeros(len(lengths), np.int32) if tasks is None else np.array(tasks, np.int32)
    names = tuple(f"t{i}" for i in range(int(task_ids.max(initial=0)) + 1))
    mask = mask.copy()
    mask[offsets[:-1]] = False
    trained = np.add.reduceat(mask, offsets[:-1]).astype(np.int32) if total else lengths
    return TokenCache(
        folder=Path("/nowhere"),
        ids=np.arange(total, dtype=np.int32),
        trained_mask=MaskBits(np.packbits(mask), total),
        offsets=offsets,
        lengths=lengths,
        trained_counts=trained,
        task_ids=task_ids,
        origins=np.arange(len(lengths), dtype=np.int64),
        tasks=names,
        fingerprint="x",
        overlong=OverlongCounts.none(len(names)),
    )


def everything(cache):
    return np.arange(len(cache), dtype=np.int64)


lengths_strategy = st.lists(st.integers(2, SEQ), min_size=1, max_size=80)


@given(st.lists(st.integers(1, SEQ), max_size=200))
def test_packing_puts_each_sample_in_one_row_and_no_row_overflows(lengths):
    rows = pack_best_fit(np.array(lengths, np.int32), SEQ)
    assert sorted(rows.samples.tolist()) == list(range(len(lengths)))
    for i in range(len(rows)):
        assert 0 < sum(lengths[s] for s in rows[i]) <= SEQ


@given(st.lists(st.integers(1, SEQ), min_size=1, max_size=200))
def test_packing_is_best_fit_decreasing(lengths):
    """Against the plain definition: into the fullest row that still holds the sample."""
    spaces: list[int] = []
    for length in sorted(lengths, reverse=True):
        fitting = [s for s in spaces if s >= length]
        if fitting:
            best = min(fitting)
            spaces.remove(best)
            spaces.append(best - length)
        else:
            spaces.append(SEQ - length)
    rows = pack_best_fit(np.array(lengths, np.int32), SEQ)
    used = [sum(lengths[s] for s in rows[i]) for i in range(len(rows))]
    assert sorted(SEQ - u for u in used) == sorted(spaces)


def test_a_sample_that_cannot_fit_is_refused():
    with pytest.raises(ValueError, match="lengths"):
        pack_best_fit(np.array([SEQ + 1], np.int32), SEQ)


@given(st.lists(st.lists(st.booleans(), max_size=40), max_size=12), st.data())
def test_mask_bits_come_back_as_they_were_written(tmp_path_factory, masks, data):
    path = tmp_path_factory.mktemp("bits") / "mask.bin"
    with MaskWriter(path) as writer:
        for mask in masks:
            writer.append(np.array(mask, bool))
    flat = [bit for mask in masks for bit in mask]
    if not flat:
        return
    bits = MaskBits.open(path, len(flat))
    start = data.draw(st.integers(0, len(flat)))
    stop = data.draw(st.integers(0, len(flat)))
    assert bits[start:stop].tolist() == flat[start:stop]


def seen_in(cache, plan, seq_length=SEQ):
    """Every (sample, token, trained) an epoch's batches show, and the segments they stand in."""
    seen: Counter = Counter()
    for s in range(len(plan)):
        for rank in plan[s].rows:
            for micro in rank:
                batch = collate(cache, micro, seq_length=seq_length, dynamic=True, pad_id=-7)
                real = batch.segment_ids > 0
                assert (batch.input_ids[~real] == -7).all()
                assert not batch.loss_mask[~real].any()
                seen.update(
                    zip(
                        batch.sample_ids[real].tolist(),
                        batch.input_ids[real].tolist(),
                        batch.loss_mask[real].tolist(),
                        strict=True,
                    )
                )
    return seen


def expected_in(cache, samples):
    return Counter(
        (int(s), int(token), bool(trained))
        for s in samples
        for token, trained in zip(*cache.sample(int(s)), strict=True)
    )


@settings(deadline=None, max_examples=40)
@given(lengths_strategy, st.data(), st.integers(1, 3), st.integers(1, 3), st.integers(0, 3))
def test_an_epoch_shows_the_same_samples_and_trained_tokens_packed_or_not_on_any_number_of_ranks(
    lengths, data, micro_batch, accumulation, epoch
):
    tasks = data.draw(st.lists(st.integers(0, 2), min_size=len(lengths), max_size=len(lengths)))
    masks = data.draw(st.lists(st.booleans(), min_size=sum(lengths), max_size=sum(lengths)))
    cache = cache_of(lengths, tasks, masks)
    expected = expected_in(cache, everything(cache))
    for mode in ("padding", "pack"):
        for ranks in (1, 2, 3):
            plan = plan_epoch(
                cache,
                everything(cache),
                mode=mode,
                seq_length=SEQ,
                micro_batch=micro_batch,
                accumulation=accumulation,
                ranks=ranks,
                seed=1,
                epoch=epoch,
            )
            assert seen_in(cache, plan) == expected
            trained = sum(
                n
                for s in range(len(plan))
                for r in plan[s].all_rows()
                for _, n in trained_in_row(cache, r)
            )
            assert trained == cache.trained_counts.sum()


@settings(deadline=None)
@given(lengths_strategy, st.integers(4, 40))
def test_concat_shows_every_token_once_and_fills_every_row_but_the_last(lengths, seq_length):
    cache = cache_of(lengths)
    rows = cut_to_rows(cache, everything(cache), seq_length)
    sizes = [int((row[:, 2] - row[:, 1]).sum()) for row in rows]
    assert all(size == seq_length for size in sizes[:-1])
    plan = plan_epoch(
        cache, everything(cache), mode="concat", seq_length=seq_length, micro_batch=2,
        accumulation=1, ranks=2, seed=0, epoch=0,
    )  # fmt: skip
    tokens = Counter(token for _, token, _ in seen_in(cache, plan, seq_length).elements())
    assert tokens == Counter(range(sum(lengths)))


def test_positions_and_segments_begin_anew_for_each_sample_and_its_first_token_is_not_trained():
    cache = cache_of([3, 4, 2], tasks=[0, 1, 0])
    batch = collate(cache, [np.array([1, 0]), np.array([2])], seq_length=10, dynamic=True, pad_id=0)
    assert batch.position_ids[0].tolist() == [0, 1, 2, 3, 0, 1, 2, 0]
    assert batch.segment_ids[0].tolist() == [1, 1, 1, 1, 2, 2, 2, 0]
    assert batch.task_ids[0].tolist() == [1, 1, 1, 1, 0, 0, 0, -1]
    assert batch.loss_mask[0].tolist() == [False, True, True, True, False, True, True, False]
    assert batch.input_ids.dtype == batch.position_ids.dtype == np.int64
    assert collate(
        cache, [np.array([2])], seq_length=10, dynamic=False, pad_id=0
    ).input_ids.shape == (1, 10)


def test_an_empty_micro_batch_is_one_row_of_padding():
    batch = collate(cache_of([3]), [], seq_length=16, dynamic=True, pad_id=5)
    assert batch.input_ids.shape[0] == 1
    assert (batch.input_ids == 5).all()
    assert not batch.loss_mask.any()


@given(st.integers(1, 60), st.integers(1, 3), st.integers(1, 3), st.integers(1, 4))
def test_no_rank_gets_two_rows_more_than_another_in_any_step(rows, micro, accumulation, ranks):
    cache = cache_of([SEQ] * rows)
    plan = plan_epoch(
        cache, everything(cache), mode="pack", seq_length=SEQ, micro_batch=micro,
        accumulation=accumulation, ranks=ranks, seed=0, epoch=0,
    )  # fmt: skip
    for s in range(len(plan)):
        counts = [sum(len(m) for m in rank) for rank in plan[s].rows]
        assert max(counts) - min(counts) <= 1
        assert all(len(m) <= micro for rank in plan[s].rows for m in rank)
    assert len(plan) == -(-rows // (micro * accumulation * ranks))


def test_a_plan_is_the_same_each_time_and_differs_by_seed_and_epoch():
    cache = cache_of(range(2, 30))
    shape = {"seq_length": SEQ, "micro_batch": 2, "accumulation": 2, "ranks": 1}

    def order(seed, epoch, mode):
        plan = plan_epoch(cache, everything(cache), mode=mode, seed=seed, epoch=epoch, **shape)
        return [row.tolist() for s in range(len(plan)) for row in plan[s].all_rows()]

    for mode in ("padding", "pack"):
        assert order(1, 0, mode) == order(1, 0, mode)
        assert order(1, 0, mode) != order(1, 1, mode)
        assert order(1, 0, mode) != order(2, 0, mode)


def test_the_shuffle_never_changes_between_versions():
    # Resuming a run, or replaying it years later, needs this very order.
    assert keyed_order(8, 42, 0).tolist() == [3, 2, 5, 0, 1, 6, 4, 7]


def test_rows_of_a_padded_batch_are_of_like_length():
    rng = np.random.default_rng(0)
    cache = cache_of(rng.integers(2, SEQ, 2000))
    plan = plan_epoch(
        cache, everything(cache), mode="padding", seq_length=SEQ, micro_batch=8,
        accumulation=1, ranks=1, seed=0, epoch=0,
    )  # fmt: skip
    padded = real = 0
    for s in range(len(plan)):
        lengths = [cache.lengths[row].sum() for row in plan[s].all_rows()]
        padded += max(lengths) * len(lengths)
        real += sum(lengths)
    assert real / padded > 0.95


def test_packs_stay_within_a_task_when_asked():
    cache = cache_of([5] * 40, tasks=[i % 2 for i in range(40)])
    plan = plan_epoch(
        cache, everything(cache), mode="pack", seq_length=SEQ, micro_batch=1, accumulation=1,
        ranks=1, seed=0, epoch=0, across_tasks=False,
    )  # fmt: skip
    rows = [row for s in range(len(plan)) for row in plan[s].all_rows()]
    assert all(len(set(cache.task_ids[row])) == 1 for row in rows)
    assert sorted(np.concatenate(rows).tolist()) == list(range(40))


@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 8), st.integers(0, 5))
def test_mixing_by_weight_keeps_the_epochs_size_and_comes_round_evenly(first, second, weight, seed):
    cache = cache_of([2] * (first + second), [0] * first + [1] * second)
    sampling = Sampling("weights", weights={"t0": weight, "t1": 1})
    epochs = [epoch_samples(cache, everything(cache), sampling, seed, e) for e in range(6)]
    assert all(len(e) == first + second for e in epochs)
    share = [int((cache.task_ids[e] == 0).sum()) for e in epochs]
    assert all(abs(s - (first + second) * weight / (weight + 1)) <= 1 for s in share)
    seen = Counter(np.concatenate(epochs).tolist())
    for members in (range(first), range(first, first + second)):
        times = [seen[m] for m in members]
        assert max(times) - min(times) <= 1


@given(st.lists(st.integers(1, 40), min_size=2, max_size=4), st.floats(1, 20))
def test_temperature_draws_the_tasks_towards_each_other(sizes, temperature):
    tasks = [t for t, n in enumerate(sizes) for _ in range(n)]
    cache = cache_of([2] * len(tasks), tasks)
    chosen = epoch_samples(cache, everything(cache), Sampling("temperature", temperature), 0, 0)
    counts = np.bincount(cache.task_ids[chosen], minlength=len(sizes))
    wanted = np.array(sizes) ** (1 / temperature)
    assert np.abs(counts - wanted / wanted.sum() * len(tasks)).max() <= 1


def test_a_cap_takes_other_samples_each_epoch():
    cache = cache_of([2] * 30)
    sampling = Sampling(max_samples_per_task=10)
    epochs = [epoch_samples(cache, everything(cache), sampling, 7, e).tolist() for e in range(3)]
    assert sorted(s for e in epochs for s in e) == list(range(30))


@given(st.integers(1, 12), st.integers(1, 40), st.integers(0, 5), st.integers(1, 30))
@settings(max_examples=300)
def test_an_epoch_takes_no_sample_twice_before_it_has_taken_all_and_all_come_round(
    size, count, seed, epochs
):
    taken = [_stream(size, count, epoch, seed, 0).tolist() for epoch in range(epochs)]
    for one in taken:
        times = Counter(one)
        assert len(one) == count
        assert set(times.values()) <= {count // size, count // size + 1}
    whole = [sample for one in taken for sample in one]
    for cycle in range(len(whole) // size):
        assert sorted(whole[cycle * size : (cycle + 1) * size]) == list(range(size))


def test_a_cap_that_does_not_divide_its_task_repeats_nothing_within_an_epoch():
    cache = cache_of([2] * 10)
    sampling = Sampling(max_samples_per_task=7)
    for epoch in range(20):
        taken = epoch_samples(cache, everything(cache), sampling, 7, epoch)
        assert len(set(taken.tolist())) == 7


def test_a_weight_for_a_task_that_is_not_there_is_a_usage_error():
    with pytest.raises(UsageError, match="'nope'"):
        epoch_samples(cache_of([2]), np.array([0]), Sampling("weights", weights={"nope": 1}), 0, 0)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.integers(0, 2), min_size=1, max_size=80), st.integers(0, 9), st.booleans())
def test_a_split_puts_every_sample_in_one_part_and_keeps_training_in_every_task(tasks, seed, mix):
    cache = cache_of([2] * len(tasks), tasks)
    split = split_samples(cache, "80,10,10", seed, mix)
    together = np.concatenate([split.train, split.valid, split.test])
    assert sorted(together.tolist()) == list(range(len(tasks)))
    for task in set(tasks):
        assert (cache.task_ids[split.train] == task).any()
        if tasks.count(task) >= 3:
            assert (cache.task_ids[split.valid] == task).any()


def test_no_validation_is_taken_when_its_share_is_zero():
    split = split_samples(cache_of([2] * 100), "100,0,0", 0, True)
    assert (len(split.train), len(split.valid), len(split.test)) == (100, 0, 0)


@given(st.lists(st.integers(2, 90), min_size=1, max_size=30), st.integers(8, 40))
def test_splitting_long_samples_keeps_every_token_and_keeps_pieces_together(lengths, seq_length):
    whole = cache_of(lengths)
    cut = fit_samples(whole, "split", seq_length)
    assert cut.lengths.max() <= seq_length
    kept = np.concatenate([cut.sample(i)[0] for i in range(len(cut))])
    lost = set(range(sum(lengths))) - set(kept.tolist())
    # Only a last piece of one token is left out: it has nothing to be predicted from.
    assert all(token + 1 in whole.offsets for token in lost)
    assert len(kept) == len(set(kept.tolist()))
    split = split_samples(cut, "50,50,0", 3, True)
    assert not set(cut.origins[split.train]) & set(cut.origins[split.valid])
    assert cut.trained_counts.tolist() == [int(cut.sample(i)[1].sum()) for i in range(len(cut))]


def test_truncating_and_dropping_are_counted_by_task_and_leave_what_they_say():
    masks = [False] * 60 + [True] * 4 + [True] * 10 + [True] * 40
    cache = cache_of([64, 10, 40], tasks=[0, 0, 1], masks=masks)
    cut = fit_samples(cache, "truncate", SEQ)
    assert cut.lengths.tolist() == [10, SEQ]
    assert cut.overlong.longer.tolist() == [1, 1]
    assert cut.overlong.truncated.tolist() == [0, 1]
    assert cut.overlong.untrained.tolist() == [1, 0]
    assert cut.fingerprint != cache.fingerprint
    dropped = fit_samples(cache, "drop", SEQ)
    assert dropped.origins.tolist() == [1]
    assert dropped.overlong.dropped.tolist() == [1, 1]
    assert fit_samples(replace(cache), "drop", 64).fingerprint == cache.fingerprint


def test_fill_is_the_share_of_positions_that_hold_a_token():
    lengths = np.array([SEQ, SEQ // 2], np.int32)
    assert fill(pack_best_fit(lengths, SEQ), lengths, SEQ) == 0.75
