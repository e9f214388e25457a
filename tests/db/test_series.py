"""Series: what a chart gets of a metric."""

import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import db


def _write(store: db.Store, run_id: str, values: dict[int, float], key: str = "loss") -> None:
    writer = store.writer(run_id)
    for step, value in values.items():
        writer.metrics(step, {key: value}, at=float(step))
    writer.commit()


def test_a_short_series_comes_whole_and_in_order(store: db.Store, new_run) -> None:
    run = new_run()
    _write(store, run.id, {3: 0.3, 1: 0.1, 2: math.nan})
    series = store.series(run.id, "loss", 10)
    assert [point.step for point in series.points] == [1, 2, 3]
    assert not series.decimated
    assert math.isnan(series.points[1].value)
    assert series.points[0].at == 1.0


def test_a_long_series_keeps_its_peaks_its_nans_and_its_ends(store: db.Store, new_run) -> None:
    run = new_run()
    values = {step: math.sin(step / 50) for step in range(5000)}
    values |= {1234: 99.0, 1235: -99.0, 3333: math.nan, 4000: math.inf}
    _write(store, run.id, values)
    series = store.series(run.id, "loss", 100)
    shown = {point.step: point.value for point in series.points}
    assert series.decimated
    assert len(shown) == len(series.points) <= 100
    assert shown[1234] == 99.0
    assert shown[1235] == -99.0
    assert math.isnan(shown[3333])
    assert shown[4000] == math.inf
    assert {0, 4999} <= set(shown)
    assert sorted(shown) == list(shown)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    values=st.dictionaries(
        st.integers(0, 10_000),
        st.floats(allow_nan=True, allow_infinity=True),
        min_size=1,
        max_size=200,
    ),
    max_points=st.integers(5, 60),
)
def test_decimating_shows_true_points_and_the_extremes(
    store: db.Store, values: dict[int, float], max_points: int
) -> None:
    run = db.RunRecord(id=db.new_run_id(), kind="train")
    store.insert_run(run)
    _write(store, run.id, values)
    series = store.series(run.id, "loss", max_points)
    shown = {point.step: point.value for point in series.points}
    assert len(series.points) <= max_points
    assert series.decimated == (len(values) > max_points)
    for step, value in shown.items():
        assert value == values[step] or (math.isnan(value) and math.isnan(values[step]))
    finite = [value for value in values.values() if math.isfinite(value)]
    if finite:
        assert min(finite) in shown.values()
        assert max(finite) in shown.values()
    assert {min(values), max(values)} <= set(shown)


def test_a_part_of_a_series_can_be_looked_at_closely(store: db.Store, new_run) -> None:
    run = new_run()
    _write(store, run.id, {step: float(step) for step in range(1000)})
    part = store.series(run.id, "loss", 50, first=100, last=120)
    assert [point.step for point in part.points] == list(range(100, 121))
    wide = store.series(run.id, "loss", 20, first=100, last=899)
    assert wide.decimated
    assert (wide.points[0].step, wide.points[-1].step) == (100, 899)


def test_a_metric_that_is_not_there_is_an_empty_series(store: db.Store, new_run) -> None:
    run = new_run()
    assert store.series(run.id, "loss").points == ()
    _write(store, new_run().id, {1: 1.0})
    assert store.series(run.id, "loss").points == ()


def test_too_few_points_to_draw_anything_is_an_error_of_the_caller(store: db.Store) -> None:
    with pytest.raises(ValueError, match="max_points"):
        store.series("any", "loss", 4)
