"""What counts as a copy: thresholds chosen on ordinary pictures, and what the judges said, kept on disk."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from steerclear_lab.bench.sweep.judges import JUDGES, Judges, Values

LEAST_STRUCTURE, LEAST_TILED = 0.8, 0.8  # thresholds are never laxer
MARGIN = 0.01  # above the highest score of the ordinary pictures that thresholds are chosen on


def thresholds(ordinary: Sequence[Values]) -> dict[str, float]:
    """The score from which each judge says "copy": above that of every ordinary picture given here.

    Args:
        ordinary: what the judges say of the half of the ordinary pictures that thresholds are chosen on.
    """
    least = {"pixel": LEAST_STRUCTURE, "tiled": LEAST_TILED, "descriptor": 0.0}
    return {
        judge: round(max(least[judge], max((v[judge] for v in ordinary), default=0.0) + MARGIN), 4)
        for judge in JUDGES
    }


def taken_for_copy(values: Mapping[str, Any], at: Mapping[str, float]) -> list[str]:
    """The judges that take a picture for a copy."""
    return [judge for judge in JUDGES if values[judge] >= at[judge]]


def severity(values: Mapping[str, Any], at: Mapping[str, float]) -> float:
    """How near a picture comes to the judges' thresholds: 1 and above is a copy by one of them."""
    return max(float(values[judge]) / at[judge] for judge in JUDGES)


def judged(
    judges: Judges, pictures: Iterable[tuple[str, Path | np.ndarray[Any, Any]]], file: Path
) -> dict[str, Values]:
    """What the judges say of pictures by key, kept in a file, a line each.

    Lines of another descriptor than `judges` has are left out, and their pictures judged again.

    Args:
        judges: all judges.
        pictures: by key: files, or uint8 (H, W, 3).
        file: where the values are kept.
    """
    kept: dict[str, Values] = {}
    if file.exists():
        for line in file.read_text().splitlines():
            row = json.loads(line) if line.endswith("}") else {}
            if row.pop("judge", None) == judges.fingerprint:
                kept[row.pop("key")] = row
        whole = file.with_suffix(".partial")
        whole.write_text("".join(_line(key, values, judges) for key, values in kept.items()))
        os.replace(whole, file)
    asked: dict[str, Values] = {}
    for key, picture in pictures:
        if key not in kept:
            if isinstance(picture, Path):
                with Image.open(picture) as opened:
                    kept[key] = judges(opened.convert("RGB"))
            else:
                kept[key] = judges(Image.fromarray(picture))
            with file.open("a") as out:
                out.write(_line(key, kept[key], judges))
        asked[key] = kept[key]
    return asked


def _line(key: str, values: Values, judges: Judges) -> str:
    return json.dumps({"key": key, "judge": judges.fingerprint, **values}) + "\n"
