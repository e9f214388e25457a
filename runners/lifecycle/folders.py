"""Where things are kept: the state folder and the layout of a run folder."""

import os
from dataclasses import dataclass
from pathlib import Path

import platformdirs


def state_home() -> Path:
    """``$MFT_HOME``, else the XDG state folder's ``mft-tui``; not created here."""
    if given := os.environ.get("MFT_HOME"):
        return Path(given).expanduser().absolute()
    return platformdirs.user_state_path("mft-tui")


@dataclass(frozen=True)
class StateFolder:
    """The folder that holds everything mft-tui remembers."""

    root: Path

    @classmethod
    def default(cls) -> "StateFolder":
        """The one that ``$MFT_HOME`` or XDG names."""
        return cls(state_home())

    @property
    def database(self) -> Path:
        """The SQLite file."""
        return self.root / "mft.db"

    @property
    def hashes(self) -> Path:
        """The cache of content hashes; only time is lost with it."""
        return self.root / "hashes.sqlite"

    @property
    def runs(self) -> Path:
        """The folder of run folders."""
        return self.root / "runs"

    def run(self, run_id: str) -> "RunFolder":
        """The folder of one run, by its whole id."""
        return RunFolder(self.runs / run_id)


@dataclass(frozen=True)
class RunFolder:
    """One run on disk: portable, complete without the database."""

    path: Path

    @property
    def run_id(self) -> str:
        """The folder's name is the run's id."""
        return self.path.name

    @property
    def config(self) -> Path:
        """The resolved config, every key."""
        return self.path / "config.json"

    @property
    def launch(self) -> Path:
        """The argv and the environment variables that were added."""
        return self.path / "launch.json"

    @property
    def provenance(self) -> Path:
        """Code, packages, machine, seeds and content hashes of the inputs."""
        return self.path / "provenance.json"

    @property
    def console(self) -> Path:
        """stdout and stderr of the job, a file and never a pipe."""
        return self.path / "console.log"

    @property
    def events(self) -> Path:
        """The event log."""
        return self.path / "events.jsonl"

    @property
    def status(self) -> Path:
        """How the run stands, as its supervisor last knew it."""
        return self.path / "status.json"

    @property
    def stop_request(self) -> Path:
        """There when somebody asked the run to stop; read and removed by the supervisor."""
        return self.path / "stop.json"

    @property
    def lock(self) -> Path:
        """Held by the supervisor for as long as it lives."""
        return self.path / "supervisor.lock"

    @property
    def supervisor_log(self) -> Path:
        """What the supervisor itself had to say: database trouble, its own faults."""
        return self.path / "supervisor.log"

    @property
    def artifacts(self) -> Path:
        """What the job wrote, unless its config names another folder."""
        return self.path / "artifacts"
