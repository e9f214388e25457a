"""How times, counts and sizes are said in a narrow column."""

import math


def span(seconds: float | None) -> str:
    """A duration in at most two units: ``48s``, ``3m 20s``, ``2h 05m``, ``6d 3h``."""
    if seconds is None or not math.isfinite(seconds):
        return ""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h {whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d {whole % 86400 // 3600}h"


def ago(then: float | None, now: float) -> str:
    """How long ago, in one unit: ``now``, ``5m ago``, ``3h ago``, ``12d ago``."""
    if then is None:
        return ""
    past = max(0, int(now - then))
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if past >= size:
            return f"{past // size}{unit} ago"
    return "now" if past < 5 else f"{past}s ago"


def size(count: float) -> str:
    """Bytes in binary units: ``512 B``, ``3.4 GiB``."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def number(value: float | None) -> str:
    """Four figures that mean something: ``1.234``, ``0.0312``, ``2e-5``, ``12,345``."""
    if value is None:
        return ""
    if not math.isfinite(value):
        return str(value)
    if value == int(value) and abs(value) < 1e9:
        return f"{int(value):,}"
    if abs(value) >= 10_000:
        return f"{value:,.0f}"
    if abs(value) < 1e-3:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa.removesuffix('.0')}e{int(exponent)}"
    return f"{value:.4g}"


def bar(share: float, width: int) -> str:
    """A line of ``width`` cells, heavy up to ``share`` in half cells, light after it."""
    halves = round(max(0.0, min(1.0, share)) * width * 2)
    whole, half = divmod(halves, 2)
    return ("━" * whole + "╸" * half).ljust(width, "─")
