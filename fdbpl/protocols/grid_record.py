"""grid.json: the planned cells of all grids of an OUTPUT and their status. Grids may write to it at the same time."""

from collections.abc import Iterable
from pathlib import Path

from fdbpl.errors import UserError
from fdbpl.io.atomic import read_record, write_json
from fdbpl.io.locks import file_lock
from fdbpl.protocols.grid import Cell

KEY = ("protocol", "trainer", "config", "dataset", "shots", "seed")


class GridRecord:
    """`OUTPUT/grid.json`: {"cells": [...]}, each {protocol, label, trainer, config, dataset, targets, shots, seed,
    status, reason, each}.

    `config` is the configuration's folder name; `status` is planned, done or failed, `reason` why it failed; `each` is
    the key whose values are averaged over like seeds ("" = none).
    """

    def __init__(self, output: Path, each: str = ""):
        self.path, self.each = output / "grid.json", each.partition("=")[0]

    def update(self, cells: Iterable[Cell], status: str, reason: str = "") -> None:
        """Set the status of `cells`; cells of earlier calls and their targets are kept.

        Raises:
            UserError: the file is there and is no such record.
            SystemFailure: it cannot be written.
        """
        with file_lock(self.path.with_name(".grid.json.lock")):
            merged = self._known()
            for cell in cells:
                entry = {
                    **dict(zip(KEY, cell.key, strict=True)),
                    "label": cell.row.label,
                    "targets": list(cell.row.targets),
                    "status": status,
                    "reason": reason,
                    "each": self.each,
                }
                key = cell.key
                earlier = merged.get(key, {}).get("targets", [])
                entry["targets"] = list(dict.fromkeys([*earlier, *entry["targets"]]))
                merged[key] = entry
            write_json(self.path, {"cells": list(merged.values())})

    def _known(self) -> dict[tuple, dict]:
        """The cells in the file."""
        if not self.path.is_file():
            return {}
        remedy = "delete it (the runs stay what they are)"
        cells = read_record(self.path, "the record of a grid", remedy, cells=list)["cells"]
        try:
            return {tuple(cell[name] for name in KEY): {"targets": [], **cell} for cell in cells}
        except (KeyError, TypeError) as error:
            raise UserError(
                f"A cell in {self.path} lacks one of {', '.join(KEY)} ({type(error).__name__}: {error}); {remedy}"
            ) from error
