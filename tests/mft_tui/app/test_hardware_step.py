"""The hardware page with fake drivers: eight GPUs, MIG slices, one lost, none at all."""

from collections.abc import Callable
from typing import Any

import pytest

from mft_tui.app import MftApp
from mft_tui.screens.wizard import WizardScreen, hardware_step
from mft_tui.widgets.gpu_table import GpuTable
from runners.hardware.probe import detect
from runners.hardware.sampler import GpuSampler
from tests.mft_tui.app.waiting import until
from tests.runners.hardware.fake_nvml import FakeNvml, eight_h100s, mig_slices, one_lost, vanishing

Make = Callable[[], MftApp]


def _drive(monkeypatch: pytest.MonkeyPatch, nvml: Any) -> None:
    monkeypatch.setattr(hardware_step, "_detect", lambda: detect(nvml, {}))
    monkeypatch.setattr(hardware_step, "_open_sampler", lambda: GpuSampler(nvml).__enter__())


async def _page(app: MftApp, pilot: Any) -> WizardScreen:
    screen = WizardScreen()
    app.push_screen(screen)
    await until(pilot, lambda: screen.page is not None)
    screen._turn_to("hardware", enter=True)
    await until(pilot, lambda: screen.query(GpuTable))
    await until(pilot, lambda: str(screen.query_one("#host").render()))
    return screen


def _words(screen: WizardScreen) -> str:
    return str(screen.query_one(GpuTable).render())


async def test_eight_gpus_are_listed_and_some_of_them_chosen(
    make_app: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    _drive(monkeypatch, FakeNvml(eight_h100s()))
    app = make_app()
    async with app.run_test(size=(140, 45)) as pilot:
        screen = await _page(app, pilot)
        await until(pilot, lambda: _words(screen).count("[x]") == 8)
        assert "H100" in _words(screen)
        await pilot.press("down", "space")
        await until(pilot, lambda: _words(screen).count("[x]") == 7)
        assert screen.draft.of("train")["gpu_ids"] == ["0", "2", "3", "4", "5", "6", "7"]
        await pilot.press("space")
        await until(pilot, lambda: "gpu_ids" not in screen.draft.of("train"))
        await pilot.press("c")
        await until(pilot, lambda: _words(screen).count("[x]") == 0)
        assert screen.draft.of("train")["use_cpu"] is True


async def test_mig_slices_stand_under_their_gpu(
    make_app: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    _drive(monkeypatch, FakeNvml(mig_slices()))
    app = make_app()
    async with app.run_test(size=(140, 45)) as pilot:
        screen = await _page(app, pilot)
        await until(pilot, lambda: "slice 0" in _words(screen))


async def test_a_lost_gpu_is_said_and_cannot_be_chosen(
    make_app: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    _drive(monkeypatch, FakeNvml(one_lost()))
    app = make_app()
    async with app.run_test(size=(140, 45)) as pilot:
        screen = await _page(app, pilot)
        await until(pilot, lambda: "no longer answers" in _words(screen))
        lost = next(gpu.index for gpu in screen.query_one(GpuTable)._gpus if gpu.lost)
        before = _words(screen).count("[x]")
        await pilot.press(*["down"] * lost, "space")
        await until(pilot, lambda: len(app._notifications) == 1)
        assert _words(screen).count("[x]") == before


async def test_a_gpu_that_falls_off_the_bus_is_said_while_the_page_is_open(
    make_app: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    cards = eight_h100s()
    nvml = FakeNvml(cards)
    _drive(monkeypatch, nvml)
    app = make_app()
    async with app.run_test(size=(140, 45)) as pilot:
        screen = await _page(app, pilot)
        await until(pilot, lambda: _words(screen).count("[x]") == 8)
        cards[3].used = vanishing(after=0)
        await until(pilot, lambda: _words(screen).count("no longer answers") == 1)


async def test_without_a_gpu_it_says_that_jobs_run_on_the_cpu(
    make_app: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    _drive(monkeypatch, FakeNvml([]))
    app = make_app()
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await _page(app, pilot)
        await until(pilot, lambda: "jobs run on the CPU" in _words(screen))
        assert "CPUs" in str(screen.query_one("#host").render())
