"""The monitor: what it shows of a run, and of several."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from rich.text import Text
from textual.widgets import Static

from db import Store, open_store
from mft_tui.app import MftApp
from mft_tui.screens import monitor, monitor_panes
from mft_tui.screens.home import HomeScreen
from mft_tui.screens.monitor import MonitorScreen
from mft_tui.screens.monitor_panes import completion_blocks, last_of
from mft_tui.screens.series import Line, read_curves
from mft_tui.widgets.curves import Curve
from mft_tui.widgets.facts import Facts
from mft_tui.widgets.gpu_table import GpuTable
from mft_tui.widgets.log_pane import LogPane
from mft_tui.widgets.log_view import LogView
from mft_tui.widgets.metric_chart import MetricChart
from mft_tui.widgets.task_files import Sighting
from mft_tui.widgets.title_bar import TitleBar
from runners.config import ExportConfig
from runners.hardware.probe import detect
from runners.hardware.sampler import GpuSampler
from runners.lifecycle.folders import StateFolder
from runners.lifecycle.hashing import HashCache
from runners.lifecycle.processes import Machine, ProcessId
from runners.lifecycle.provenance import gather
from runners.lifecycle.resumption import resumed_notice
from tests.mft_tui.app.conftest import NOW, add_run, run_id
from tests.mft_tui.app.driving import ROOMY, SMALL, Make, open_monitor
from tests.mft_tui.app.waiting import until
from tests.runners.hardware.fake_nvml import FakeGpu, FakeNvml, eight_h100s, mig_slices, vanishing


def _loss(app: MftApp) -> MetricChart:
    return app.screen.query_one("#loss", MetricChart)


async def test_the_monitor_draws_the_loss_of_each_task(filled: StateFolder, make_app: Make) -> None:
    app = make_app()
    async with app.run_test(size=ROOMY) as pilot:
        await open_monitor(app, pilot, 1)
        await until(pilot, lambda: len(_loss(app).curves) == 3)
        assert [curve.name for curve in _loss(app).curves] == ["loss", "java", "python"]
        # Drawing waits for the next tick.
        await until(pilot, lambda: any("\u2800" < c < "\u2900" for c in _loss(app)._drawn.plain))


async def test_the_charts_mark_where_the_run_was_resumed(
    filled: StateFolder, make_app: Make
) -> None:
    with open_store(filled.database) as store:
        writer = store.writer(run_id(1))
        checkpoint = Path("checkpoints at step 9, old/step-00000250")
        writer.notice("info", resumed_notice(checkpoint, 250, "exactly where it stopped"), NOW)
        writer.commit(events_offset=2, events_seq=2)
    app = make_app()
    async with app.run_test(size=ROOMY) as pilot:
        screen = await open_monitor(app, pilot, 1, 2)
        for chart in ("#loss", "#second"):
            drawn = screen.query_one(chart, MetricChart)
            await until(pilot, lambda drawn=drawn: "┊" in drawn._drawn.plain)
            assert str(drawn.border_subtitle) == "┊ resumed at step 250"
        await pilot.press("right_square_bracket")
        # The next run went through in one go.
        await until(pilot, lambda: screen.run is not None and screen.run.id == run_id(2))
        await until(pilot, lambda: screen.query("#loss") and _loss(app).curves)
        await until(pilot, lambda: any("\u2800" < c < "\u2900" for c in _loss(app)._drawn.plain))
        assert "┊" not in _loss(app)._drawn.plain


async def test_measured_memory_stands_beside_what_was_expected(
    state: StateFolder, model: Path, make_app: Make
) -> None:
    config = {"data_paths": ["unread"], "pretrained_model_path": str(model), "use_cpu": True}
    add_run(state, 1, host=Machine.here().host, config=json.dumps(config))
    with open_store(state.database) as store:
        writer = store.writer(run_id(1))
        writer.metrics(10, {"loss": 1.0, "peak_memory_bytes": 3.5 * 2**30}, NOW)
        writer.commit(events_offset=1, events_seq=1)
    app = make_app()
    async with app.run_test(size=ROOMY) as pilot:
        screen = await open_monitor(app, pilot, 1)
        facts = screen.query_one("#facts", Facts)
        await until(pilot, lambda: dict(facts._facts).get("memory peak") == "3.5 GiB")
        await until(pilot, lambda: dict(facts._facts).get("  estimated", "").endswith("iB"))


def _go_on_here(state: StateFolder, number: int) -> None:
    """Make a run one that goes on on this machine, supervised by this test."""
    here, me = Machine.here(), ProcessId.of(os.getpid())
    assert me is not None
    with open_store(state.database) as store:
        store.update_run(
            run_id(number), status="running", host=here.host, boot_id=here.boot_id,
            supervisor_pid=me.pid, supervisor_started=me.started, heartbeat_at=NOW, ended_at=None,
        )  # fmt: skip


async def test_a_gpu_that_is_lost_in_mid_run_is_said_beside_the_run(
    filled: StateFolder, make_app: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    cards = eight_h100s()
    nvml = FakeNvml(cards)
    _go_on_here(filled, 1)
    monkeypatch.setattr(monitor, "_detect_gpus", lambda: detect(nvml, {}).gpus)
    monkeypatch.setattr(monitor, "_open_sampler", lambda: GpuSampler(nvml).__enter__())
    app = make_app()
    async with app.run_test(size=ROOMY) as pilot:
        screen = await open_monitor(app, pilot, 1)
        await until(pilot, lambda: _machine(screen).count("H100") == 8)
        assert "lost" not in _machine(screen)
        cards[3].used = vanishing(after=0)
        await until(pilot, lambda: _machine(screen).count("lost: it no longer answers") == 1)


@pytest.mark.parametrize("cards", [mig_slices(), []])
async def test_slices_are_shown_and_no_gpu_is_said(
    filled: StateFolder, make_app: Make, monkeypatch: pytest.MonkeyPatch, cards: list[FakeGpu]
) -> None:
    nvml = FakeNvml(cards)
    _go_on_here(filled, 1)
    monkeypatch.setattr(monitor, "_detect_gpus", lambda: detect(nvml, {}).gpus)
    monkeypatch.setattr(monitor, "_open_sampler", lambda: GpuSampler(nvml).__enter__())
    app = make_app()
    async with app.run_test(size=ROOMY) as pilot:
        screen = await open_monitor(app, pilot, 1)
        told = "slice 0  3g.40gb" if cards else "no NVIDIA GPU\nCPU"
        await until(pilot, lambda: told in _machine(screen))


async def test_beside_a_run_that_is_over_stands_the_machine_it_ran_on(
    filled: StateFolder, make_app: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvml = FakeNvml(eight_h100s())
    hardware = detect(nvml, {}).to_json()
    provenance = gather(
        ExportConfig(generations=filled.root), [], cache=HashCache(filled.hashes),
        cwd=filled.root, environ={}, hardware=hardware,
    )  # fmt: skip
    filled.run(run_id(1)).provenance.write_bytes(msgspec.json.encode(provenance))
    monkeypatch.setattr(monitor, "_detect_gpus", lambda: ())
    app = make_app()
    async with app.run_test(size=ROOMY) as pilot:
        screen = await open_monitor(app, pilot, 1, 2)
        await until(pilot, lambda: "8 × H100" in _machine(screen))
        await pilot.press("right_square_bracket")
        await until(pilot, lambda: "not recorded" in _machine(screen))


async def test_the_driver_is_let_go_when_the_monitor_is_left(
    filled: StateFolder, make_app: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvml = FakeNvml(eight_h100s())
    _go_on_here(filled, 1)
    opened: list[GpuSampler] = []

    def open_sampler() -> GpuSampler:
        opened.append(GpuSampler(nvml).__enter__())
        return opened[-1]

    monkeypatch.setattr(monitor, "_detect_gpus", lambda: detect(nvml, {}).gpus)
    monkeypatch.setattr(monitor, "_open_sampler", open_sampler)
    app = make_app()
    async with app.run_test(size=ROOMY) as pilot:
        screen = await open_monitor(app, pilot, 1)
        await until(pilot, lambda: _machine(screen).count("H100") == 8)
        assert opened[0]._open
        await pilot.press("escape")
        await until(pilot, lambda: not opened[0]._open)
    assert len(opened) == 1


async def test_curves_are_read_again_only_when_their_own_run_has_moved(
    filled: StateFolder, make_app: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []

    def counted(store: Store, lines: Sequence[Line], window: object) -> list[Curve]:
        read.append(len(lines))
        return read_curves(store, lines, window)  # type: ignore[arg-type]

    monkeypatch.setattr(monitor_panes, "read_curves", counted)
    app = make_app()
    async with app.run_test(size=ROOMY) as pilot:
        screen = await open_monitor(app, pilot, 1)
        await until(pilot, lambda: len(_loss(app).curves) == 3 and not screen._looking)
        before, version = len(read), screen._version
        with open_store(filled.database) as store:
            writer = store.writer(run_id(2))
            writer.metrics(9000, {"loss": 0.1}, NOW)
            writer.commit(events_offset=2, events_seq=2)
        await until(pilot, lambda: screen._version != version and not screen._looking)
        assert len(read) == before
        with open_store(filled.database) as store:
            writer = store.writer(run_id(1))
            writer.metrics(9000, {"loss": 0.1}, NOW)
            writer.commit(events_offset=2, events_seq=2)
        await until(pilot, lambda: _loss(app).curves[0].steps[-1] == 9000)
        assert read[before:] == [3]


def _machine(screen: MonitorScreen) -> str:
    return str(screen.query_one(GpuTable).render())


async def test_zooming_reads_the_points_that_were_left_out(
    state: StateFolder, make_app: Make
) -> None:
    add_run(state, 1)
    with open_store(state.database) as store:
        writer = store.writer(run_id(1))
        for step in range(20_000):
            writer.metrics(step, {"loss": 1 + (step % 7) / 10}, NOW)
        writer.commit(events_offset=1, events_seq=1)
    app = make_app()
    async with app.run_test(size=ROOMY) as pilot:
        await open_monitor(app, pilot, 1)
        await until(pilot, lambda: _loss(app).curves)
        chart = _loss(app)
        assert len(chart.curves[0].steps) <= 1200
        chart.focus()
        await pilot.press(*["plus"] * 6)
        await until(pilot, lambda: len(chart.curves[0].steps) < 400)
        steps = chart.curves[0].steps
        assert list(steps) == list(range(int(steps[0]), int(steps[-1]) + 1))
        assert chart.whole.low == 0
        await pilot.press("0")
        await until(pilot, lambda: chart.curves[0].steps[0] == 0)


async def test_views_show_one_part_alone_and_escape_goes_back_in_steps(
    filled: StateFolder, make_app: Make
) -> None:
    app = make_app()
    async with app.run_test(size=SMALL) as pilot:
        screen = await open_monitor(app, pilot, 1)
        assert not screen.query_one(LogPane).display
        await pilot.press("2")
        assert screen.query_one(LogPane).display
        await until(pilot, lambda: isinstance(app.focused, LogView))
        await pilot.press("3")
        assert screen.query_one("#side").display
        await pilot.press("escape")
        assert app.screen is screen
        assert not screen.query_one("#side").display
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, HomeScreen))


async def test_several_runs_stand_behind_tabs(filled: StateFolder, make_app: Make) -> None:
    app = make_app()
    async with app.run_test(size=ROOMY) as pilot:
        screen = await open_monitor(app, pilot, 1, 4)
        assert screen.has_class("-several")
        tabs = screen.query_one("#tabs", Static)
        await until(pilot, lambda: "✓ first training" in str(tabs.render()))
        assert "✓ scores" in str(tabs.render())
        await pilot.press("right_square_bracket")
        await until(pilot, lambda: screen.run is not None and screen.run.id == run_id(4))
        await until(pilot, lambda: screen.query("TaskRows"))
        await pilot.press("left_square_bracket")
        await until(pilot, lambda: screen.run is not None and screen.run.id == run_id(1))


def test_completions_stand_under_their_questions_however_little_room_there_is() -> None:
    seen = [
        Sighting("mbpp", number, "".join(f"line {n}\n" for n in range(9)), "stop")
        for number in (1, 2)
    ]
    blocks = completion_blocks(seen)
    for room in range(1, 12):
        lines = [line.plain for line in last_of(blocks, room)]
        assert len(lines) <= room
        assert lines[0].startswith("mbpp")
        assert "mbpp 2  stop" in lines


async def test_a_short_log_leaves_its_room_to_the_rest(filled: StateFolder, make_app: Make) -> None:
    filled.run(run_id(2)).console.write_text("one line\n")
    app = make_app()
    async with app.run_test(size=ROOMY) as pilot:
        screen = await open_monitor(app, pilot, 2)
        pane = screen.query_one(LogPane)
        await until(pilot, lambda: pane.size.height == 1)
        with filled.run(run_id(2)).console.open("a") as file:
            file.write("more\n" * 100)
        await until(pilot, lambda: pane.size.height > 8)
        await pilot.press("2")
        await until(pilot, lambda: pane.size.height > 35)


@pytest.mark.parametrize("room", [78, 50, 30])
async def test_a_title_is_told_beside_a_long_status(make_app: Make, room: int) -> None:
    app = make_app()
    async with app.run_test(size=(room + 2, 24)) as pilot:
        bar = TitleBar("generate  coder-7b-coba-2")
        bar.status = Text("1,148/2,468 question  47% · 6 min left · attempt 2 · ● running")
        await app.screen.mount(bar)
        await pilot.pause()
        line = str(bar.render())
        assert len(line) <= room
        assert "generate  coder-7b-cob" in line
        assert "1,1" in line
