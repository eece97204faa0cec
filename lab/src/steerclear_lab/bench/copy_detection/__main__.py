"""The copy detector's benchmark: altered copies of two protected sets, pictures that are no copies, and what
looking costs.

    python -m steerclear_lab.bench.copy_detection --work copy-detection-work --out docs/benchmarks

Resumes from what lies in --work. Needs Tux Paint's stamps (`apt-get install tuxpaint-stamps-default`, GPL:
measured with, not shipped) and about two hours on one core, most of it for the ordinary generations.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from steerclear.copy_detection import CopyDetector, ProtectedSide
from steerclear.copy_detection.alterations import alterations
from steerclear.embedded import LIBRARY_FOLDER
from steerclear.encoders import DEFAULT, load_encoder
from steerclear.filters import NearestFilter, PixelFilter, TiledFilter
from steerclear.filters.base import Filter, inspect
from steerclear.filters.pixel import AllPictures
from steerclear.library.search import Index
from steerclear.pixels import fit, to_tensor
from steerclear_lab.bench.copy_detection import page as pages
from steerclear_lab.bench.copy_detection import sheet as sheets
from steerclear_lab.bench.copy_detection.pictures import (
    generations,
    is_true_copy,
    ordinary_drawings,
    protected_sets,
    stamps,
)
from steerclear_lab.bench.copy_detection.scale import beside_a_generation, scale
from steerclear_lab.bench.environment import environment

Row = dict[str, Any]
TIMED = 40  # pictures whose cost is measured


def detector_for(pictures: dict[str, Image.Image]) -> CopyDetector:
    """The copy detector of a set, at its default thresholds."""
    protected = {name: to_tensor([picture])[0] for name, picture in pictures.items()}
    return CopyDetector(ProtectedSide.of(protected), original_of=protected.get)


def whole_picture_filters(pictures: dict[str, Image.Image]) -> list[Filter]:
    """The filters that compare whole with whole, at the embedded library's thresholds."""
    from steerclear.library import Library

    calibration = Library.open(LIBRARY_FOLDER).read_note("calibration")
    assert calibration is not None
    thresholds = calibration["thresholds"]
    ids = tuple(pictures)
    small = torch.cat([fit(to_tensor([picture]), 64) for picture in pictures.values()])
    encoder = load_encoder(DEFAULT)
    gallery = AllPictures(ids, small)
    return [
        NearestFilter(encoder, Index(ids, encoder(fit(small, encoder.size))), thresholds["nearest"]),
        PixelFilter(gallery, thresholds["pixel"]),
        TiledFilter(gallery, thresholds["tiled"]),
    ]


def measured(detector: CopyDetector, picture: Image.Image, item: str | None = None) -> Row:
    """What the copy detector says of a picture, and the seconds that it took. item: the protected picture
    that it is a copy of.
    """
    began = time.perf_counter()
    matches = detector.look(to_tensor([picture]))[0]
    seconds = time.perf_counter() - began
    evidence = [m.evidence for m in matches if m.evidence is not None]
    asked = [e.inliers for e in evidence if e.inliers is not None]
    row: Row = {
        "orientation": max((e.orientation for e in evidence), default=0.0),
        "soft": max((e.soft for e in evidence), default=0.0),
        "inliers": max(asked) if asked else None,
        "sameness": max((e.sameness for e in evidence), default=0.0),
        "matched": matches[0].id if matches else None,
        "seconds": seconds,
    }
    if item is not None:
        row["right"] = bool(matches) and matches[0].id == item
    return {key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()}


def copies(pictures: dict[str, Image.Image], others: list[Image.Image]) -> Iterable[Row]:
    """One row for each alteration of each protected picture."""
    detector, whole = detector_for(pictures), whole_picture_filters(pictures)
    for number, (item, picture) in enumerate(pictures.items()):
        for kind, strengths in alterations(others, seed=number).items():
            for strength, alter in strengths.items():
                altered = alter(picture)
                detections = inspect(whole, [altered])[0]
                yield {
                    "item": item,
                    "number": number,
                    "kind": kind,
                    "strength": strength,
                    "whole": any(d.flagged for d in detections),
                    **measured(detector, altered, item),
                }


def others(detector: CopyDetector, pictures: Iterable[tuple[str, Image.Image]]) -> Iterable[Row]:
    """One row for each picture that is no copy."""
    for number, (name, picture) in enumerate(pictures):
        yield {"item": name, "number": number, **measured(detector, picture)}


def kept(file: Path, rows: Callable[[], Iterable[Row]]) -> list[Row]:
    """Rows as they lie in `file`, one a line; made anew where they are not complete."""
    lines = file.read_text().splitlines() if file.exists() else []
    done = [json.loads(line) for line in lines if line.endswith("}")]
    if done and done[-1].get("last"):
        return done[:-1]
    fresh = []
    with file.open("w") as out:
        for row in rows():
            fresh.append(row)
            out.write(json.dumps(row) + "\n")
        out.write(json.dumps({"last": True}) + "\n")
    return fresh


def costs(pictures: dict[str, Image.Image], clear: Sequence[Image.Image]) -> Row:
    """Milliseconds of processor time for a clear picture and for a copy, step by step."""
    detector = detector_for(pictures)
    without = replace(detector, opinion=None)
    first = next(iter(pictures.values()))
    copied = [f(first) for strengths in alterations(list(clear)).values() for f in strengths.values()]
    rows: Row = {}
    for label, some in (("clear", clear[:TIMED]), ("copy", copied[:TIMED])):
        rows[label] = {
            **steps_of(without, some),
            "torch only, all": _milliseconds(without, some),
            "with OpenCV, all": _milliseconds(detector, some),
        }
    return rows


def steps_of(detector: CopyDetector, pictures: Sequence[Image.Image]) -> dict[str, float]:
    """Median milliseconds of each step."""
    from steerclear.copy_detection.align import SIDE, align_coarsely, align_finely, cut_patches, levels
    from steerclear.copy_detection.decide import agreement
    from steerclear.copy_detection.nominate import look, nominate, whitening
    from steerclear.copy_detection.windows import symmetries

    effort = detector.looking
    taken: dict[str, list[float]] = {"nominate": [], "align": [], "decide": []}
    for picture in pictures:
        pixels = to_tensor([picture])[0]
        clock = [time.process_time()]
        looks = look(pixels[None], whitening(), symmetries())[0]
        nominees = nominate(
            looks, detector.side.sought, items=effort.items, each=effort.placements, keep=effort.aligned
        )
        clock.append(time.process_time())
        pyramid = levels(pixels)
        targets = detector.side.pixels(nominees.items)
        placed, agreeing = align_coarsely(pyramid, targets, nominees.placed)
        rows = agreeing.topk(effort.finished).indices
        placed = align_finely(pyramid, targets[rows], placed[rows])
        clock.append(time.process_time())
        agreement(cut_patches(pyramid, placed, SIDE), targets[rows])
        clock.append(time.process_time())
        for step, a, b in zip(taken, clock, clock[1:], strict=False):
            taken[step].append(1e3 * (b - a))
    return {step: round(statistics.median(values), 1) for step, values in taken.items()}


def _milliseconds(detector: CopyDetector, pictures: Sequence[Image.Image]) -> float:
    taken = []
    for picture in pictures:
        pixels = to_tensor([picture])
        began = time.process_time()
        detector.look(pixels)
        taken.append(1e3 * (time.process_time() - began))
    return round(statistics.median(taken), 1)


def measure(work: Path, drawn: int) -> Row:
    """All rows: of copies, of other pictures and of `drawn` ordinary generations, for each set; and the
    costs.
    """
    all_stamps, drawings = stamps(), ordinary_drawings()
    sets = protected_sets(all_stamps)
    results: Row = {"copies": {}, "others": {}}
    for name, pictures in sets.items():
        rest = [
            (key, picture)
            for key, picture in {**drawings, **all_stamps}.items()
            if key not in pictures and not is_true_copy(key, of=name)
        ]
        results["copies"][name] = kept(
            work / f"copies-{name}.jsonl", partial(copies, pictures, list(drawings.values()))
        )
        detector = detector_for(pictures)
        results["others"][f"{name}: other pictures"] = kept(
            work / f"others-{name}.jsonl", partial(others, detector, rest)
        )
        results["others"][f"{name}: generations"] = kept(
            work / f"generations-{name}-{drawn}.jsonl",
            lambda detector=detector: others(detector, generations(work / "generations", drawn)),  # type: ignore[misc]
        )
    results["costs"] = costs(sets["embedded"], list(drawings.values()))
    return results


def main(argv: Sequence[str] | None = None) -> None:
    """The command that the module's first lines show."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--work", type=Path, default=Path("copy-detection-work"), help="where rows and generations are kept"
    )
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"), help="where the page is written")
    parser.add_argument(
        "--generations", type=int, default=2000, help="ordinary generations, at least 2,000 to report"
    )
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    options.work.mkdir(parents=True, exist_ok=True)
    rows = measure(options.work, options.generations)
    rows["scale"] = scale(options.work)
    rows["beside a generation"] = beside_a_generation(options.work)
    rows["environment"] = environment()
    summary = pages.write(rows, options.out)
    sheets.write(
        summary,
        drawn=options.work / "generations",
        file=options.out / "copy-detection.png",
        unshipped=options.work / "copy-detection-stamps.png",
    )


if __name__ == "__main__":
    main()
