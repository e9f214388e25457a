"""Lists of runs: what each field of a filter means, sorting and paging."""

import json
import math
from datetime import datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import db
from db.fields import FILTER_FIELDS

NOW = 1_800_000_000.0
DAY = 86_400.0


@pytest.fixture
def listed(store: db.Store, monkeypatch: pytest.MonkeyPatch):
    """Names of the runs that a filter finds, in alphabetical order."""
    store._clock = lambda: NOW  # type: ignore[method-assign]

    def names(text: str = "", **query: object) -> list[str]:
        return sorted(row.run.name for row in store.list_runs(_query(text, **query)).rows)

    return names


def _query(text: str, **query: object) -> db.RunQuery:
    return db.RunQuery(filter=text, **query)  # type: ignore[arg-type]


@pytest.fixture
def five(store: db.Store) -> None:
    """Five runs that differ in everything a filter can ask for."""
    config = json.dumps({"data_paths": ["/data/mbpp", "/data/java"], "learning_rate": 2e-4})
    runs = [
        db.RunRecord(
            id="1aaaaaaaa1", kind="train", name="alpha", status="finished", exit_code=0,
            created_at=NOW - 10 * DAY, started_at=NOW - 10 * DAY, ended_at=NOW - 9 * DAY,
            config=config, note="good_one", data_fingerprint="beefcafe",
        ),
        db.RunRecord(
            id="1aaaaaaaa2", kind="train", name="beta", status="crashed", attempt=2,
            created_at=NOW - 5 * DAY, started_at=NOW - 5 * DAY, ended_at=NOW - 5 * DAY + 90,
            config='{"learning_rate": 0.001, "peft_type": "lora", "use_dora": true}', host="gpu-1",
        ),
        db.RunRecord(
            id="1aaaaaaaa3", kind="generate", name="gamma", status="running",
            created_at=NOW - DAY, started_at=NOW - DAY, parent_id="1aaaaaaaa1",
            model_name="Qwen2-7B", message="100% of it",
        ),
        db.RunRecord(
            id="1baaaaaaa4", kind="evaluate", name="delta", status="finished", exit_code=0,
            created_at=NOW - 60, parent_id="1aaaaaaaa3", replay_of="1aaaaaaaa1", config="no json",
        ),
        db.RunRecord(
            id="1baaaaaaa5", kind="evaluate", name="old trash", status="failed",
            created_at=NOW - 30 * DAY, trashed_at=NOW - DAY,
        ),
    ]  # fmt: skip
    for run in runs:
        store.insert_run(run)
    store.tag("1aaaaaaaa1", ["best", "paper-1"])
    store.tag("1aaaaaaaa2", ["paper-2"])
    for run_id, loss in (("1aaaaaaaa1", 0.9), ("1aaaaaaaa2", math.nan), ("1aaaaaaaa3", math.inf)):
        writer = store.writer(run_id)
        writer.metrics(1, {"loss": 5.0}, at=1.0)
        writer.metrics(2, {"loss": loss, "eval/loss": 2.0}, at=2.0)
        writer.commit()
    writer = store.writer("1baaaaaaa4")
    writer.score("mbpp", 1, 2, 0.5, at=1.0)
    writer.score("humanevalsynthesize-python", 1, 10, 0.1, at=1.0)
    writer.verdicts("mbpp", [db.VerdictRecord(0, "a", True, "passed")])
    writer.artifact("zip", "a.zip", "00", 1, at=1.0)
    writer.notice("info", "done", at=1.0)
    writer.commit()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "alpha beta delta gamma"),
        ("status:finished", "alpha delta"),
        ("status:FINISHED kind:train", "alpha"),
        ("status:finished,crashed", "alpha beta delta"),
        ("status!=finished", "beta gamma"),
        ("status:*ed", "alpha beta delta"),
        ("kind:train AND NOT status:crashed", "alpha"),
        ("kind:generate OR tag:best", "alpha gamma"),
        ("tag:best", "alpha"),
        ("tag:paper-*", "alpha beta"),
        ("NOT tag:paper-*", "delta gamma"),
        ("name:eta", "beta"),
        ("name:*eta", "beta"),
        ("name:d*", "delta"),
        ("name=alp", ""),
        ("name=alpha", "alpha"),
        ("note:good_one", "alpha"),
        ("note:good-one", ""),
        ("message:100%", "gamma"),
        ("message:0%o", ""),
        ("model:qwen2", "gamma"),
        ("host:gpu-1", "beta"),
        ("data:mbpp", "alpha"),
        ("data:beef", "alpha"),
        ("data:cafe", ""),
        ("NOT data:mbpp", "beta delta gamma"),
        ("id:1a", "alpha beta gamma"),
        ("id:1B", "delta"),
        ("parent:1aaaaaaaa1", "gamma"),
        ("replay:1a", "delta"),
        ("since:7d", "beta delta gamma"),
        ("before:7d", "alpha"),
        ("since:2h", "delta"),
        ("created<7d", "alpha"),
        ("started>36h", "gamma"),
        ("duration>1h", "alpha gamma"),
        ("duration<2m", "beta"),
        ("exit=0", "alpha delta"),
        ("attempt>1", "beta"),
        ("loss<1.2", "alpha"),
        ("loss>1e9", "gamma"),
        ("loss=nan", "beta"),
        ("loss!=nan", "alpha gamma"),
        ("NOT loss<1.2", "beta delta gamma"),
        ("metric.eval/loss>=2", "alpha beta gamma"),
        ("eval/loss=2 loss<1", "alpha"),
        ("pass@1>0.29", "delta"),
        ("pass@1>0.3", ""),
        ("pass@1.mbpp>=0.5", "delta"),
        ("pass@1.mbpp>=0.5 pass@1<0.4 scored=2", "delta"),
        ("scored=0", "alpha beta gamma"),
        ("config.learning_rate>5e-4", "beta"),
        ("config.learning_rate=2e-4", "alpha"),
        ("config.peft_type:lora", "beta"),
        ("config.use_dora=true", "beta"),
        ("is:live", "gamma"),
        ("is:ended is:root", "alpha beta"),
        ("is:replay", "delta"),
        ("is:resumed", "beta"),
        ("has:scores", "delta"),
        ("has:metrics", "alpha beta gamma"),
        ("has:children", "alpha gamma"),
        ("has:note", "alpha"),
        ("has:tags has:note", "alpha"),
        ("has:verdicts has:artifacts has:notices has:parent", "delta"),
        ("bet", "beta"),
        ("paper", "alpha beta"),
        ("1aaaaaaaa3", "gamma"),
        ('"old trash"', ""),
    ],
)  # fmt: skip
def test_a_filter_finds(five: None, listed, text: str, found: str) -> None:
    assert listed(text) == found.split()


def test_the_trash_is_hidden_unless_asked_for(five: None, listed) -> None:
    assert listed("", trash="only") == ["old trash"]
    assert "old trash" in listed("", trash="include")
    assert listed("is:trashed") == ["old trash"]


def test_dates_are_local_and_may_have_a_time(five: None, listed) -> None:
    day = datetime.fromtimestamp(NOW - 5 * DAY)
    assert listed(f"since:{day.date().isoformat()}") == ["beta", "delta", "gamma"]
    later = datetime.fromtimestamp(NOW - 5 * DAY + 1).isoformat()
    assert listed(f"since:{later}") == ["delta", "gamma"]
    assert listed("before:yesterday NOT since:today") == ["alpha", "beta"]


@pytest.mark.parametrize(
    ("text", "position", "message"),
    [
        ("stauts:finished", 1, "Did you mean 'status'"),
        ("kind:train status:finishd", 12, "Did you mean 'finished'"),
        ("status<3", 1, "text and cannot be compared"),
        ("tag>a", 1, "text and cannot be compared"),
        ("loss<low", 1, "is no number"),
        ("loss<nan", 1, "smaller or larger than NaN"),
        ("exit=zero", 1, "compared with a number"),
        ("since:lastweek", 1, "is no time"),
        ("since<7d", 1, "is written since:7d"),
        ("duration>long", 1, "no span of time"),
        ("is:broken", 1, "It is one of live"),
        ("has:scors", 1, "Did you mean 'scores'"),
        ("colour:red", 1, "Fields: id, name"),
    ],
)
def test_a_filter_that_makes_no_sense_says_where(
    five: None, listed, text: str, position: int, message: str
) -> None:
    with pytest.raises(db.QueryError) as told:
        listed(text)
    assert message in str(told.value)
    assert told.value.where == f"filter, character {position}"


def test_a_metric_nobody_has_finds_nothing_and_hints(five: None, store: db.Store) -> None:
    page = store.list_runs(_query("los<1"))
    assert page.rows == ()
    assert page.hints == ("no run has a metric 'los'; did you mean 'loss'?",)


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([*FILTER_FIELDS, "loss", "pass@1.mbpp", 'config.a"b', "metric.x"]),
            st.sampled_from([":", "=", "!=", "<", ">="]),
            st.one_of(st.sampled_from(["7d", "nan", "inf", "1", "live", "a*"]), st.text()),
        ),
        max_size=4,
    )
)
def test_no_filter_makes_the_database_fail(store: db.Store, terms) -> None:
    def shown(value: str) -> str:
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'

    text = " ".join(f"{shown(name)}{sign}{shown(value)}" for name, sign, value in terms)
    try:
        store.list_runs(_query(text))
    except db.QueryError as refused:
        told = refused.where or ""
    else:
        told = "filter, character"
    assert told.startswith("filter, character")


@pytest.mark.parametrize(
    ("sort", "first"),
    [
        ("-created_at", "delta"),
        ("created_at", "alpha"),
        ("name", "alpha"),
        ("-pass@1", "delta"),
        ("pass@1.mbpp", "delta"),
        ("-scored", "delta"),
        ("loss", "alpha"),
        ("-loss", "gamma"),
        ("-config.learning_rate", "beta"),
        ("duration", "beta"),
        ("metric.eval/loss", "gamma"),
    ],
)
def test_runs_are_sorted_and_those_without_a_value_come_last(
    five: None, store: db.Store, sort: str, first: str
) -> None:
    store._clock = lambda: NOW  # type: ignore[method-assign]
    assert store.list_runs(_query("", sort=sort)).rows[0].run.name == first


def test_a_sort_that_is_none_names_the_nearest(five: None, store: db.Store) -> None:
    with pytest.raises(db.QueryError, match="Did you mean 'created_at'"):
        store.list_runs(_query("", sort="create_at"))


def test_rows_carry_tags_metrics_and_scores(five: None, store: db.Store) -> None:
    rows = {row.run.name: row for row in store.list_runs().rows}
    assert rows["alpha"].tags == ("best", "paper-1")
    assert rows["alpha"].metrics == {"eval/loss": 2.0, "loss": 0.9}
    assert rows["alpha"].pass_at_1 is None
    assert rows["delta"].scores == {"mbpp": 0.5, "humanevalsynthesize-python": 0.1}
    assert rows["delta"].pass_at_1 == pytest.approx(0.3)
    only = store.list_runs(_query("name:alpha", metrics=("loss",))).rows[0]
    assert only.metrics == {"loss": 0.9}


def test_pages_cover_everything_once_and_know_the_total(store: db.Store, new_run) -> None:
    made = [new_run().id for _ in range(23)]
    seen: list[str] = []
    for offset in range(0, 40, 10):
        page = store.list_runs(_query("", limit=10, offset=offset))
        assert page.total == 23
        seen += [row.run.id for row in page.rows]
    assert seen == made[::-1]
    assert len(store.list_runs(_query("", limit=-1)).rows) == 23
