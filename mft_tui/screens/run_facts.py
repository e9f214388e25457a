"""What is worth knowing of a run at a glance: names and values, most important first.

Apart from the monitor because it is about a run and not about a screen.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from db.records import LIVE_STATUSES, MetricPoint, RunRecord
from mft_tui.screens.monitor_panes import is_validation, train_losses
from mft_tui.widgets.facts import Fact
from mft_tui.widgets.quantities import number, size, span

if TYPE_CHECKING:
    from db import Store

_MOST = 18
_TOTAL_EVAL_LOSS = "eval_loss"


@dataclass(frozen=True)
class Validation:
    """The lowest validation loss and the validations since; ``patience`` of them end the run."""

    best: float
    since: int
    patience: int | None


def read_validation(
    store: "Store", run: RunRecord, latest: Mapping[str, MetricPoint]
) -> Validation | None:
    """How validation stands, from its loss over all tasks; None before the first one."""
    keys = sorted((k for k in latest if is_validation(k) and "loss" in k), key=len)
    if not keys:
        return None
    key = _TOTAL_EVAL_LOSS if _TOTAL_EVAL_LOSS in keys else keys[0]
    values = [point.value for point in store.series(run.id, key, 2000).points]
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return None
    config: dict[str, Any] = json.loads(run.config or "{}")
    patience = config.get("early_stopping_stall_num") if config.get("early_stopping") else None
    best = min(finite)
    return Validation(best, len(values) - 1 - values.index(best), patience)


def estimated_memory(run: RunRecord) -> int | None:
    """Bytes of tensors that a rank of the run was expected to hold; None where that is not known.

    Tensors alone, like the peak that is measured beside it. Only for a run of this machine, as it
    depends on its GPUs.
    """
    from mft_tui.screens.wizard.plan import estimate_draft
    from runners.hardware import probe
    from runners.lifecycle.processes import Machine

    if run.host != Machine.here().host:
        return None
    answer = estimate_draft(json.loads(run.config or "{}"), probe.detect())
    return None if isinstance(answer, str) else answer.rank.parts.tensors


def run_facts(
    run: RunRecord,
    latest: Mapping[str, MetricPoint],
    validation: Validation | None,
    needs: int | None,
    now: float,
) -> list[Fact]:
    """The facts of a run; those without a value are empty. ``needs`` is the estimated memory."""

    def value(*names: str) -> str:
        return next((number(latest[name].value) for name in names if name in latest), "")

    losses = train_losses(list(latest))
    end = now if run.status in LIVE_STATUSES else run.ended_at or run.heartbeat_at or now
    mfu, peak = latest.get("mfu"), latest.get("peak_memory_bytes")
    facts: list[Fact] = [
        ("loss", number(latest[losses[0]].value) if losses else ""),
        ("learning rate", value("learning_rate", "lr")),
        ("tokens/s", value("tokens_per_second", "trained_tokens_per_second")),
        ("MFU", f"{mfu.value:.1%}" if mfu is not None else ""),
        ("elapsed", span(end - run.started_at) if run.started_at else ""),
        ("gradient norm", value("gradient_norm", "grad_norm")),
    ]
    if validation is not None:
        facts += [
            ("eval loss", value(_TOTAL_EVAL_LOSS)),
            ("best eval loss", number(validation.best)),
        ]
        facts.append(("early stop", _stalled(validation)))
    if peak is not None or needs is not None:
        facts.append(("memory peak", size(peak.value) if peak is not None else "not told"))
        facts.append(("  estimated", size(needs) if needs is not None else ""))
    shown = {
        "lr", "learning_rate", "tokens_per_second", "mfu", "grad_norm", "gradient_norm",
        "seconds_left", "peak_memory_bytes", _TOTAL_EVAL_LOSS, *losses[:1],
    }  # fmt: skip
    for key, point in latest.items():
        if "/" not in key and key not in losses and key not in shown and len(facts) < _MOST:
            facts.append((key.replace("_", " "), number(point.value)))
    return [*facts, ("stage", run.stage), ("exit", str(run.exit_code or ""))]


def _stalled(validation: Validation) -> str:
    if validation.patience is None:
        return "off"
    return f"{validation.since} of {validation.patience}"
