"""Peak arithmetic rates and memory of GPU models, from NVIDIA's data sheets.

Separate because two rooms divide by these numbers: the estimate (time) and training (model FLOPs
utilisation). Dense tensor-core rates without sparsity, accumulating in float32, at the full power
limit.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class GpuModel:
    """A GPU model: operations a second in bf16 (fp16 where it has no bf16), and bytes of memory."""

    name: str
    half_flops: float
    memory: int


def _model(name: str, teraflops: float, gigabytes: int) -> GpuModel:
    return GpuModel(name, teraflops * 1e12, gigabytes << 30)


# More telling names first: the first one found in what the driver says is taken.
MODELS: tuple[GpuModel, ...] = (
    _model("GB200", 2500, 186),
    _model("B200", 2250, 180),
    _model("H200", 989, 141),
    _model("H100 NVL", 835, 94),
    _model("H100 PCIe", 756, 80),
    _model("GH200", 989, 96),
    _model("H100", 989, 80),
    _model("H800 PCIe", 756, 80),
    _model("H800", 989, 80),
    _model("H20", 148, 96),
    _model("A100", 312, 80),
    _model("A800", 312, 80),
    _model("A40", 150, 48),
    _model("A30", 165, 24),
    _model("A10G", 70, 24),
    _model("A10", 125, 24),
    _model("L40S", 362, 48),
    _model("L40", 181, 48),
    _model("L4", 121, 24),
    _model("RTX 6000 Ada", 364, 48),
    _model("RTX A6000", 155, 48),
    _model("RTX 5090", 210, 32),
    _model("RTX 4090", 165, 24),
    _model("RTX 4080", 97, 16),
    _model("RTX 3090", 71, 24),
    _model("V100", 125, 32),
    _model("T4", 65, 16),
)


def find_model(name: str) -> GpuModel | None:
    """The model that a driver's name such as "NVIDIA H100 80GB HBM3" means, None if unknown.

    A MIG slice is a part of its GPU and has no rate of its own here.
    """
    if "MIG" in name:
        return None
    words = name.casefold().replace("-", " ").split()
    for model in MODELS:
        wanted = model.name.casefold().split()
        if all(word in words for word in wanted):
            return model
    return None


def peak_flops(name: str) -> float | None:
    """Peak operations a second in half precision of a GPU by its driver's name, if known."""
    model = find_model(name)
    return model.half_flops if model else None
