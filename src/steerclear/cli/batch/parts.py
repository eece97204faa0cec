"""A batch in parts: what is to be made, and making one part of it. A part counts once its table is written.

A part's pictures come first and its table last, in one write. So a crash leaves pictures that no table names,
and making the part again, by the same or by another process, replaces them by the same ones: each row has one
result, however often a part was begun.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from steerclear.cli.batch.outputs import Outputs
from steerclear.cli.recipe import PromptAndSeed, Recipe
from steerclear.errors import ConfigError, InputError
from steerclear.output import encode_png, report_line

if TYPE_CHECKING:
    from steerclear.types import Report

PLAN = "batch.json"


class Done(NamedTuple):
    """A part that is recorded.

    Attributes:
        part: its number.
        rows: how many it has.
    """

    part: int
    rows: int


@dataclass(frozen=True)
class Plan:
    """What a batch makes.

    Attributes:
        recipe: of all its pictures.
        rows: its prompts and seeds.
        part: how many rows are recorded together.
        model_fingerprint: of the model's weights, which every machine must have.
    """

    recipe: Recipe
    rows: tuple[PromptAndSeed, ...]
    part: int
    model_fingerprint: str

    @property
    def parts(self) -> int:
        """How many parts there are."""
        return -(-len(self.rows) // self.part)

    def rows_of(self, part: int) -> range:
        """The numbers of a part's rows."""
        return range(part * self.part, min((part + 1) * self.part, len(self.rows)))

    def begin(self, outputs: Outputs) -> set[int]:
        """Write down what the batch is, or see that it is the one that was begun there.

        Returns:
            The parts that are recorded already.

        Raises:
            InputError: if another batch was begun there.
        """
        before = outputs.read(PLAN)
        mine = self._document()
        if before is None:
            outputs.write(PLAN, json.dumps(mine, indent=2).encode())
            return set()
        try:
            theirs = dict(json.loads(before))
        except (ValueError, TypeError) as error:
            raise InputError(f"{outputs.address(PLAN)!r} is damaged; choose another --out") from error
        different = sorted(name for name in {*mine, *theirs} if mine.get(name) != theirs.get(name))
        if different:
            raise InputError(
                f"another batch was begun in {outputs.location!r}, which differs in {', '.join(different)}; "
                "choose another --out, or give the same list and options again"
            )
        recorded = {part_name(i): i for i in range(self.parts)}
        return {recorded[name] for name in outputs.names("results") if name in recorded}

    def _document(self) -> dict[str, Any]:
        digest = hashlib.sha256()
        for row in self.rows:
            digest.update(json.dumps([row.prompt, row.seed]).encode() + b"\n")
        recipe = self.recipe.to_dict()
        asked = {name: recipe[name] for name in recipe if not name.startswith(("library_", "outcome"))}
        # where it runs is no part of what is made, but what computes is: another device rounds otherwise
        document = asked | {
            "model": self.recipe.model,
            "model_fingerprint": self.model_fingerprint,
            "device": self.recipe.device.partition(":")[0],
            "rows": len(self.rows),
            "rows_sha256": digest.hexdigest(),
            "part": self.part,
        }
        return dict(json.loads(json.dumps(document)))


class Maker:
    """A guard that makes parts.

    Args:
        plan: the batch.
        outputs: where it goes.

    Raises:
        ConfigError: for a model with other weights than the batch began with.
        SteerclearError: for whatever cannot be loaded.
    """

    def __init__(self, plan: Plan, outputs: Outputs) -> None:
        from steerclear.cli.opening import load_guard

        self._plan = plan
        self._outputs = outputs
        self._guard, self._recipe = load_guard(plan.recipe)
        if self._recipe.model_fingerprint != plan.model_fingerprint:
            raise ConfigError(
                f"the model {plan.recipe.model!r} is another one here ({self._recipe.model_fingerprint}) "
                f"than where the batch began ({plan.model_fingerprint}); put the same files there"
            )

    def make(self, part: int) -> Done:
        """Make the pictures of a part, then record them."""
        lines = list(self._lines(part))
        self._outputs.write(f"results/{part_name(part)}", _parquet(lines))
        return Done(part, len(lines))

    def _lines(self, part: int) -> Iterator[dict[str, Any]]:
        from steerclear.cli.generate import make

        for row in self._plan.rows_of(part):
            asked = self._plan.rows[row]
            recipe = replace(self._recipe, prompt=asked.prompt, seed=asked.seed)
            output = make(self._guard, recipe)
            image, report = output.images[0], output.reports[0]
            name = f"pictures/{row:08d}.png"
            digest = None
            if image is None:
                self._outputs.remove(name)  # what a crashed run made by an older version of the library
            else:
                produced = replace(self._of_library(recipe, report), outcome=str(report.outcome))
                contents = encode_png(image, produced.to_dict())
                digest = hashlib.sha256(contents).hexdigest()
                self._outputs.write(name, contents)
            line = report_line(report, None if image is None else self._outputs.address(name))
            file = {"row": row, "picture": line.pop("file"), "picture_sha256": digest}
            yield file | line | {"seed": asked.seed}

    def _of_library(self, recipe: Recipe, report: Report) -> Recipe:
        """A picture's recipe with the version of the library that it was compared with."""
        library = self._guard.library
        if library is not None and report.library_version != self._recipe.library_version:
            self._recipe = replace(  # it has changed since the last picture
                self._recipe,
                library_version=report.library_version,
                library_fingerprint=library.fingerprint()[:16],
            )
        known = self._recipe
        return replace(
            recipe, library_version=known.library_version, library_fingerprint=known.library_fingerprint
        )


def part_name(part: int) -> str:
    """The file name of a part's table."""
    return f"part-{part:06d}.parquet"


def _parquet(lines: list[dict[str, Any]]) -> bytes:
    """A table of report lines; what is nested in them is JSON, so that every program reads it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    nested = ("where", "detections", "attempts", "observed")
    numbers = {"row", "seed", "nfe", "nfe_plain", "library_version"}
    fractions = {"before", "after", "seconds", "overhead"}
    types = {
        name: pa.int64() if name in numbers else pa.float64() if name in fractions else pa.string()
        for name in lines[0]
    }
    rows = [
        {
            name: json.dumps(value) if name in nested and value is not None else value
            for name, value in line.items()
        }
        for line in lines
    ]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, pa.schema(list(types.items()))), sink)
    contents: bytes = sink.getvalue().to_pybytes()
    return contents
