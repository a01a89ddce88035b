"""grid.json: which cells were asked for, and what became of them. Several grids at once may write to one OUTPUT."""

from collections.abc import Iterable
from pathlib import Path

from fdbpl.atomic import read_json, write_json
from fdbpl.locks import held
from fdbpl.runs.comparison import Cell

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
        """Note what became of `cells`; cells of earlier calls stay, and so do their targets.

        Raises:
            UserError: the file is there and is no such record.
            MachineError: it cannot be written.
        """
        with held(self.path.with_name(".grid.json.lock")):
            known = read_json(self.path, "the record of a grid")["cells"] if self.path.is_file() else []
            merged = {tuple(entry[name] for name in KEY): entry for entry in known}
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
