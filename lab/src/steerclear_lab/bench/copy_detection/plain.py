"""How plain pictures are recognised that are unaltered or nearly so, and which are taken for each other: the
flags of all countries.

    npm pack flag-icons && tar xzf flag-icons-*.tgz
    python -m steerclear_lab.bench.copy_detection.plain --flags package/flags/4x3 --out docs/benchmarks

Adds its figures to copy-detection.json, and writes the page anew. Some ten minutes on one core.
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from steerclear.copy_detection import CopyDetector, ProtectedSide, Thresholds
from steerclear.copy_detection.sameness import sameness
from steerclear.pixels import to_tensor
from steerclear_lab.bench.copy_detection import page as pages

WIDTH = 256  # pixels at which flags are drawn
SETS = ("embedded", "stamps")  # that the page shows beside
SAME = 0.004  # mean difference of two small pictures below which they are one flag, as of French territories


def flags(folder: Path) -> dict[str, Image.Image]:
    """The flags of countries by their two letters, each different one once. folder: of SVG files."""
    import resvg_py

    pictures = dict[str, Image.Image]()
    for file in sorted(folder.glob("??.svg")):
        png = bytes(resvg_py.svg_to_bytes(svg_string=file.read_text(), width=WIDTH, background="white"))
        pictures[file.stem] = Image.open(io.BytesIO(png)).convert("RGB")
    small = _small(pictures)
    different: list[int] = []
    for row, picture in enumerate(small):
        if all(float((picture - small[other]).abs().mean()) > SAME for other in different):
            different.append(row)
    names = list(pictures)
    return {names[row]: pictures[names[row]] for row in different}


def recompressed(quality: int) -> Callable[[Image.Image], Image.Image]:
    """Saves as a JPEG of a quality, with colours at half the resolution as usual, and reads that."""

    def jpeg(picture: Image.Image) -> Image.Image:
        stream = io.BytesIO()
        picture.save(stream, "JPEG", quality=quality, subsampling=2)
        return Image.open(stream).convert("RGB")

    return jpeg


def resized(factor: float) -> Callable[[Image.Image], Image.Image]:
    """Resizes by a factor, bicubically."""
    return lambda p: p.resize((round(p.width * factor), round(p.height * factor)), Image.Resampling.BICUBIC)


ALTERATIONS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "unaltered": lambda p: p,
    "half the size": resized(0.5),
    "twice the size": resized(2.0),
    "JPEG, quality 60": recompressed(60),
}


def measure(pictures: dict[str, Image.Image]) -> dict[str, Any]:
    """How many of the nearly unaltered flags are caught as themselves, and which pairs are taken for each
    other as wholes."""
    protected = {name: to_tensor([picture])[0] for name, picture in pictures.items()}
    detector = CopyDetector(ProtectedSide.of(protected))
    caught = {}
    for name, alter in ALTERATIONS.items():
        missed = [key for key, p in pictures.items() if not _is_caught(detector, alter(p), key)]
        caught[name] = {"copies": len(pictures), "missed": missed}
    names, small, least = (
        list(pictures),
        detector.side.pixels(torch.arange(len(pictures))),
        Thresholds().sameness,
    )
    alike = [
        {"picture": names[i], "protected": names[j], "sameness": round(value, 3)}
        for i in range(len(names))
        for j, value in enumerate(sameness(small[i], small).tolist())
        if i != j and value >= least
    ]
    return {
        "flags": len(names),
        "plain": len(detector.plain),
        "caught": caught,
        "pairs": len(names) * (len(names) - 1),
        "alike": alike,
    }


def _is_caught(detector: CopyDetector, picture: Image.Image, item: str) -> bool:
    return any(m.id == item and m.score >= 1 for m in detector.look(to_tensor([picture]))[0])


def _small(pictures: dict[str, Image.Image]) -> torch.Tensor:
    side = ProtectedSide.of({name: to_tensor([p])[0] for name, p in pictures.items()})
    return side.pixels(torch.arange(len(pictures)))


def main(argv: Sequence[str] | None = None) -> None:
    """The command that the module's first lines show."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--flags", type=Path, required=True, help="folder of SVG files, one a country")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"), help="where the page lies")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    file = options.out / "copy-detection.json"
    figures = json.loads(file.read_text())
    figures["plain"] = measure(flags(options.flags))
    file.write_text(json.dumps(figures, indent=1) + "\n")
    (options.out / "copy-detection.md").write_text(pages.page(figures, SETS))


if __name__ == "__main__":
    main()
