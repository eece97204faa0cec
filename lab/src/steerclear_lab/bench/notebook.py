"""The rows and pictures of a comparison on disk, so that a run that was killed goes on where it stopped."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from steerclear.errors import InputError
from steerclear.output import save_png
from steerclear_lab.bench.documents import Row


class Notebook:
    """The rows of a run. Each is a line of `rows.jsonl` as soon as it is made, and is not made again.

    Args:
        folder: where rows and pictures are kept.
        header: what decides the rows; it must be the same when the run is resumed.
        resume: whether the folder may hold a run already.
        processes: how many processes make the rows; it may differ when the run is resumed.

    Attributes:
        rows: by key.
        processes: every number of processes that the run was made with.

    Raises:
        InputError: the folder holds another run, or one that is not to be resumed.
    """

    def __init__(self, folder: Path, header: Row, resume: bool, processes: int = 1) -> None:
        self.folder = folder
        self.file = folder / "rows.jsonl"
        (folder / "pictures").mkdir(parents=True, exist_ok=True)
        self.rows: dict[str, Row] = {}
        self.processes: list[int] = []
        plan = folder / "plan.json"
        if plan.exists():
            if not resume:
                raise InputError(
                    f"{str(folder)!r} holds another run; continue it by --resume, or choose another --out"
                )
            stored = json.loads(plan.read_text())
            self.processes = stored.pop("processes", [1])
            if stored != json.loads(json.dumps(header)):
                raise InputError(f"{str(folder)!r} holds a run with other options; resume with the same ones")
            self._read_rows()
        if processes not in self.processes:
            self.processes.append(processes)
        plan.write_text(json.dumps({**header, "processes": self.processes}, indent=1) + "\n")

    def picture(self, row: Row) -> Path:
        """The file of a row's picture."""
        return self.folder / "pictures" / f"{row['key']}.png"

    def add(self, row: Row, picture: Image.Image | None = None) -> None:
        """Write a row and its picture down."""
        if picture is not None:
            save_png(self.picture(row), picture)
        with self.file.open("a") as file:
            file.write(json.dumps(row) + "\n")
        self.rows[row["key"]] = row

    def sort(self, keys: Iterable[str]) -> None:
        """Bring the rows into the order of their keys, whichever was made first."""
        self.rows = {**{key: self.rows[key] for key in keys}, **self.rows}

    def _read_rows(self) -> None:
        lines = self.file.read_text().splitlines(keepends=True) if self.file.exists() else []
        complete = [line for line in lines if line.endswith("\n")]  # a kill may have torn the last one
        self.rows = {row["key"]: row for row in map(json.loads, complete)}
        self.file.write_text("".join(complete))
