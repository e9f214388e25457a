"""``mft-tui config`` and the entry point, as a person calls them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from runners.config import TrainConfig
from tests.runners.config.test_resolve import REFERENCE_FILE


def mft(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mft_tui", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_new_config_can_be_checked_at_once(tmp_path: Path) -> None:
    path = tmp_path / "train.json"
    assert mft("config", "new", "train", "-o", str(path)).returncode == 0
    checked = mft("config", "check", str(path), "--json")
    assert checked.returncode == 0, checked.stderr
    assert json.loads(checked.stdout)["kind"] == "train"


def test_a_config_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "train.json"
    path.write_text("mine")
    refused = mft("config", "new", "train", "-o", str(path))
    assert refused.returncode == 2
    assert path.read_text() == "mine"


def test_a_typo_exits_2_with_one_line_and_no_traceback(tmp_path: Path) -> None:
    path = tmp_path / "train.json"
    path.write_text('{"data_paths": ["a"], "pretrained_model_path": "m", "sed": 1}')
    failed = mft("config", "check", str(path))
    assert failed.returncode == 2
    assert failed.stdout == ""
    assert failed.stderr.count("error:") == 1
    assert "Did you mean seed?" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_a_missing_file_exits_5(tmp_path: Path) -> None:
    assert mft("config", "check", str(tmp_path / "none.json")).returncode == 5


def test_diff_tells_what_differs_and_what_obsolete_settings_did(tmp_path: Path) -> None:
    path = tmp_path / "train.json"
    path.write_text(
        '{"data_paths": "[a]", "pretrained_model_path": "m", "seed": 1, "use_xformers": true}'
    )
    report = json.loads(mft("config", "diff", str(path), "--json").stdout)
    assert {"key": "seed", "first": 1, "second": 42} in report["differences"]
    assert any("use_xformers" in notice for notice in report["notices"])


def test_diff_says_of_each_obsolete_reference_setting_what_it_did(tmp_path: Path) -> None:
    path = tmp_path / "qwen_train_config_1_8B.json"
    path.write_text(json.dumps(REFERENCE_FILE))
    notices = json.loads(mft("config", "diff", str(path), "--json").stdout)["notices"]
    shown = mft("config", "diff", str(path))
    assert shown.returncode == 0, shown.stderr
    assert len(TrainConfig.obsolete) == 14
    for key, did in TrainConfig.obsolete.items():
        told = [notice for notice in notices if f": {key} has no effect" in notice]
        assert len(told) == 1, key
        assert told[0].endswith(f"{key} has no effect: it {did}")
        assert f"~ {told[0]}\n" in shown.stdout
    assert not [n for n in notices if "evalation_steps" in n], "renamed, not obsolete"


@pytest.mark.parametrize("kind", ["train", "generate", "evaluate", "export", "merge", "convert"])
def test_every_kind_has_a_schema(kind: str) -> None:
    schema = json.loads(mft("config", "schema", kind).stdout)
    assert schema["type"] == "object"
    assert schema["properties"]


def test_an_unknown_command_exits_2_and_help_lists_every_command() -> None:
    assert mft("nonsense").returncode == 2
    shown = mft("--help")
    assert shown.returncode == 0
    for name in ("train", "generate", "evaluate", "export", "runs", "doctor", "--replay"):
        assert name in shown.stdout
