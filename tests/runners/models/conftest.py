"""What the tests of models share."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def first_generation(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The three tiny first-generation checkpoints, converted."""
    from runners.models.convert import convert_checkpoint

    root = tmp_path_factory.mktemp("converted")
    found = {}
    for source in sorted((shared / "models").iterdir()):
        found[source.name] = root / source.name
        convert_checkpoint(source, found[source.name])
    return found
