"""The hardware page with fake drivers: eight GPUs, MIG slices, one lost, none at all."""

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import Static

from mft_tui.app import MftApp
from mft_tui.screens.wizard import WizardScreen, hardware_step
from mft_tui.widgets.gpu_table import GpuTable
from runners.hardware.host import HostMemory
from runners.hardware.probe import detect
from runners.hardware.sampler import GpuSampler
from tests.mft_tui.app.waiting import until
from tests.runners.hardware.fake_nvml import (
    FakeNvml,
    eight_h100s,
    h100,
    mig_slices,
    one_lost,
    vanishing,
)

Make = Callable[[], MftApp]


def _drive(monkeypatch: pytest.MonkeyPatch, nvml: Any) -> None:
    monkeypatch.setattr(hardware_step, "_detect", lambda: detect(nvml, {}))
    monkeypatch.setattr(hardware_step, "_open_sampler", lambda: GpuSampler(nvml).__enter__())


async def _page(app: MftApp, pilot: Any, **values: object) -> WizardScreen:
    screen = WizardScreen()
    app.push_screen(screen)
    await until(pilot, lambda: screen.page is not None)
    screen.draft.of("train").update(values)
    screen._turn_to("hardware", enter=True)
    await until(pilot, lambda: screen.query(GpuTable))
    await until(pilot, lambda: str(screen.query_one("#host").render()))
    return screen


def _words(screen: WizardScreen) -> str:
    return str(screen.query_one(GpuTable).render())


def _said(screen: WizardScreen, selector: str) -> str:
    return str(screen.query_one(selector, Static).render())


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


async def test_a_choice_made_while_the_driver_is_opened_loses_neither_numbers_nor_the_driver(
    make_app: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvml, go_on, opened = FakeNvml(eight_h100s()), threading.Event(), list[GpuSampler]()
    threads: set[str] = set()

    def open_slowly() -> GpuSampler:
        threads.add(threading.current_thread().name)
        opened.append(GpuSampler(nvml))
        assert go_on.wait(60)
        return opened[-1].__enter__()

    _drive(monkeypatch, nvml)
    monkeypatch.setattr(hardware_step, "_open_sampler", open_slowly)
    app = make_app()
    async with app.run_test(size=(140, 45)) as pilot:
        screen = await _page(app, pilot)
        await until(pilot, lambda: opened)
        await pilot.press("down", "space")
        await until(pilot, lambda: "gpu_ids" in screen.draft.of("train"))
        go_on.set()
        await until(pilot, lambda: screen.query_one(GpuTable)._samples)
        assert [sampler._open for sampler in opened] == [True]
        screen.action_leave()
        await until(pilot, lambda: not any(sampler._open for sampler in opened))
    assert threads == {"machine"}, "never the thread that answers keys"


async def test_mig_slices_stand_under_their_gpu(
    make_app: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    _drive(monkeypatch, FakeNvml(mig_slices()))
    app = make_app()
    async with app.run_test(size=(140, 45)) as pilot:
        screen = await _page(app, pilot)
        await until(pilot, lambda: "slice 0" in _words(screen))
        assert "3g.40gb" in _words(screen)


async def test_one_slice_is_chosen_and_nothing_beside_it(
    make_app: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    _drive(monkeypatch, FakeNvml(mig_slices()))
    app = make_app()
    async with app.run_test(size=(140, 45)) as pilot:
        screen = await _page(app, pilot)
        await until(pilot, lambda: "[x] 1 " in _words(screen))
        await pilot.press("down", "space")
        await until(pilot, lambda: "[x]    slice 1" in _words(screen))
        assert screen.draft.of("train")["gpu_ids"] == ["MIG-bbbb0000-2222"]
        assert _words(screen).count("[x]") == 1
        await pilot.press("down", "space")
        await until(pilot, lambda: "[x]    slice 3" in _words(screen))
        assert screen.draft.of("train")["gpu_ids"] == ["MIG-bbbb9999-3333"]
        await pilot.press("down", "space")
        await until(pilot, lambda: "[x] 1 " in _words(screen))
        assert "gpu_ids" not in screen.draft.of("train")


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
        await pilot.press("space")  # the first one is left to others
        cards[3].used = vanishing(after=0)
        await until(pilot, lambda: _words(screen).count("no longer answers") == 1)
        await until(pilot, lambda: _words(screen).count("[x]") == 6)
        assert screen.draft.of("train")["gpu_ids"] == ["1", "2", "4", "5", "6", "7"]


async def test_a_lost_gpu_is_no_rank_of_the_estimate(
    data: Path, model: Path, make_app: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    cards = eight_h100s()
    _drive(monkeypatch, FakeNvml(cards))
    app = make_app()
    async with app.run_test(size=(140, 45)) as pilot:
        screen = await _page(app, pilot, data_paths=[str(data)], pretrained_model_path=str(model))
        await until(pilot, lambda: "8 ranks" in _said(screen, "#estimate"))
        cards[3].used = vanishing(after=0)
        await until(pilot, lambda: "7 ranks" in _said(screen, "#estimate"))
        assert "gpu_ids" not in screen.draft.of("train")


async def test_when_all_that_was_chosen_is_lost_the_page_says_so(
    make_app: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    cards = eight_h100s()
    _drive(monkeypatch, FakeNvml(cards))
    app = make_app()
    async with app.run_test(size=(140, 45)) as pilot:
        screen = await _page(app, pilot, gpu_ids=["3"])
        cards[3].used = vanishing(after=0)
        await until(pilot, lambda: screen.draft.found.get("hardware", "").startswith("problem"))
        await until(pilot, lambda: "choose others" in _said(screen, "#estimate"))
        assert screen.draft.of("train")["gpu_ids"] == ["3"]


async def test_zero_and_precision_are_suggested_with_the_reason_and_taken(
    data: Path, model: Path, make_app: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    _drive(monkeypatch, FakeNvml(eight_h100s()))
    app = make_app()
    async with app.run_test(size=(140, 45)) as pilot:
        screen = await _page(
            app, pilot, data_paths=[str(data)], pretrained_model_path=str(model),
            mixed_precision="no", zero_stage=3,
        )  # fmt: skip
        await until(pilot, lambda: "ZeRO 2 over 8 GPUs" in _said(screen, "#suggested"))
        assert "bf16, which every GPU here computes in" in _said(screen, "#suggested")
        await pilot.press("a")
        await until(pilot, lambda: "do that already" in _said(screen, "#suggested"))
        values = screen.draft.of("train")
        assert (values["mixed_precision"], values["zero_stage"]) == ("bf16", 2)
        await until(pilot, lambda: "ZeRO 2" in _said(screen, "#estimate"))
        await pilot.press("a")
        await until(pilot, lambda: any("as suggested" in n.message for n in app._notifications))


async def test_where_no_zero_stage_helps_another_change_is_taken(
    data: Path, make_app: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    large = tmp_path / "large"
    large.mkdir()
    (large / "config.json").write_text(json.dumps({
        "model_type": "qwen2", "hidden_size": 8192, "num_hidden_layers": 80, "vocab_size": 152064,
        "num_attention_heads": 64, "num_key_value_heads": 8, "intermediate_size": 29568,
        "max_position_embeddings": 32768, "tie_word_embeddings": False,
    }))  # fmt: skip
    seen = replace(detect(FakeNvml([h100(0)]), {}), memory=HostMemory(24 * 2**30, 20 * 2**30, None))
    monkeypatch.setattr(hardware_step, "_detect", lambda: seen)
    app = make_app()
    async with app.run_test(size=(140, 45)) as pilot:
        screen = await _page(
            app, pilot, data_paths=[str(data)], pretrained_model_path=str(large), peft_type="lora",
            per_device_train_batch_size=64, gradient_checkpointing="full",
        )  # fmt: skip
        await until(pilot, lambda: "does not fit" in _said(screen, "#estimate"))
        assert screen.draft.found["hardware"].startswith("problem")
        assert "No ZeRO stage" in _said(screen, "#suggested")
        await pilot.press("a")
        await until(pilot, lambda: "does not fit" not in _said(screen, "#estimate"))
        assert screen.draft.of("train")["peft_type"] == "qlora"


async def test_a_gpu_is_one_line_however_narrow_its_column(
    make_app: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    _drive(monkeypatch, FakeNvml(eight_h100s()))
    app = make_app()
    async with app.run_test(size=(140, 45)) as pilot:
        screen = await _page(app, pilot)
        table = screen.query_one(GpuTable)
        for width in (80, 60, 50, 40, 24):
            table.styles.width = width
            await until(pilot, lambda width=width: table.content_size.width == width - 2)
            assert table.size.height == 8
            assert all(len(line) <= width - 2 for line in _words(screen).splitlines())
        assert "HB" not in _words(screen)


async def test_without_a_gpu_it_says_that_jobs_run_on_the_cpu(
    make_app: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    _drive(monkeypatch, FakeNvml([]))
    app = make_app()
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await _page(app, pilot)
        await until(pilot, lambda: "jobs run on the CPU" in _words(screen))
        assert "CPUs" in str(screen.query_one("#host").render())
