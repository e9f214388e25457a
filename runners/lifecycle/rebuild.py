"""A new store in place of a broken one.

The run folders hold the runs, so a store can always be made again from them. What people said about
runs (names, notes, tags, the trash) is only in the store: that is read from the broken file, as far
as it can be.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runners.lifecycle.folders import StateFolder
from runners.lifecycle.portable import Taken, import_run, run_folders

if TYPE_CHECKING:
    from db import Store


@dataclass(frozen=True)
class Rebuilt:
    """What became of it. ``aside`` is where the broken file is now.

    ``from_folders`` are the runs taken from their folders; ``without_folder`` those of which only
    the broken store still told something; ``unreadable`` what could not be read, in sentences.
    """

    aside: Path
    from_folders: tuple[str, ...]
    without_folder: tuple[str, ...]
    unreadable: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        return {**asdict(self), "aside": str(self.aside)}


def damage(path: Path) -> list[str]:
    """What is wrong with the store, read from end to end; empty when nothing is.

    Raises ``db.StoreError`` for what is no damage: a store that is newer, locked or not there.
    """
    from db import StoreDamagedError, open_store

    try:
        with open_store(path, read_only=True) as store:
            return store.check()
    except StoreDamagedError as error:
        return [error.what]


def rebuild(state: StateFolder) -> Rebuilt:
    """Set the store aside and make a new one from it and from the run folders.

    Runs that are going go on; what they write is taken in by whoever looks next. Raises
    ``db.StoreError`` or ``OSError`` when the new one cannot be made; the old one is then aside.
    """
    from db import open_store
    from db.repair import salvage, set_aside

    saved = salvage(state.database)
    cards = {str(card["run"]["id"]): card for card in saved.cards}
    aside = set_aside(state.database)
    unreadable = list(saved.problems)
    taken: list[Taken] = []
    without_folder: list[str] = []
    with open_store(state.database) as store:
        for folder in run_folders(state.runs):
            try:
                taken.append(import_run(store, state, folder, cards.get(folder.run_id)))
            except Exception as error:  # noqa: BLE001 - one bad folder must not cost the others
                unreadable.append(f"{folder.path}: {error}")
        here = {one.run_id for one in taken}
        for run_id, card in cards.items():
            try:
                if run_id not in here:
                    store.import_card(card, state.run(run_id).path)
                    without_folder.append(run_id)
                _put_back(store, run_id, card["run"])
            except Exception as error:  # noqa: BLE001 - as above
                unreadable.append(f"run {run_id}: {error}")
    return Rebuilt(aside, tuple(sorted(here)), tuple(without_folder), tuple(unreadable))


def _put_back(store: "Store", run_id: str, run: Mapping[str, Any]) -> None:
    """What only the store knew and a card from another machine would not bring."""
    if run.get("trashed_at") is not None:
        store.update_run(run_id, trashed_at=run["trashed_at"])
