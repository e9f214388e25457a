"""What a job is asked to do: one Pydantic model per job.

These models are the only source of wizard fields, flags, JSON schema, error messages and the launch
line; a new key in a model shows up everywhere.
"""

from runners.config.base import JobConfig
from runners.config.evaluate import EvaluateConfig
from runners.config.finish import ConvertConfig, ExportConfig, MergeConfig
from runners.config.generate import GenerateConfig
from runners.config.train import TrainConfig

KINDS: dict[str, type[JobConfig]] = {
    config.kind: config
    for config in (
        TrainConfig,
        MergeConfig,
        ConvertConfig,
        GenerateConfig,
        EvaluateConfig,
        ExportConfig,
    )
}

__all__ = [
    "KINDS",
    "ConvertConfig",
    "EvaluateConfig",
    "ExportConfig",
    "GenerateConfig",
    "JobConfig",
    "MergeConfig",
    "TrainConfig",
]
