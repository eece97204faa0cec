"""`steerclear calibrate`: thresholds of a library's filters at a false-positive rate that the user states."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from steerclear.cli import recipe as recipes
from steerclear.cli.inputs import (
    OK,
    check_folder,
    number,
    one_line_errors,
    progress,
    read_prompts,
    read_seeds,
    whole,
)
from steerclear.cli.recipe import EMBEDDED
from steerclear.errors import InputError

if TYPE_CHECKING:
    from PIL import Image


def calibrate(
    clean: Annotated[
        list[str],
        typer.Option(
            metavar="IMAGES_OR_PROMPTS",
            help="What must not be flagged: pictures (file, folder or glob), or a .txt of prompts to generate from, "
            "one a line. May be given several times.",
        ),
    ],
    library: Annotated[
        str, typer.Option("--library", "-l", metavar="DIR", envvar="STEERCLEAR_LIBRARY", help="To calibrate.")
    ],
    fpr: Annotated[
        float, typer.Option(parser=number, metavar="RATE", help="Most false positives of each filter.")
    ] = 0.01,
    copies: Annotated[
        list[str] | None,
        typer.Option(
            metavar="IMAGES_OR_PROMPTS",
            help="What should be flagged; default: altered copies of the library's own pictures.",
        ),
    ] = None,
    model: Annotated[
        str,
        typer.Option(metavar="FOLDER_OR_ID", help="What generates from prompts; default: the embedded one."),
    ] = EMBEDDED,
    seeds: Annotated[str, typer.Option(metavar="LIST", help="For each prompt, as in `generate`.")] = "0",
    steps: Annotated[int, typer.Option(parser=whole, metavar="N", help="Denoising steps.")] = 25,
    guidance: Annotated[
        float | None, typer.Option(parser=number, metavar="X", help="Guidance scale, as in `generate`.")
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the figures go.")] = Path("calibration"),
) -> None:
    """Set each filter's threshold so that it flags at most RATE of clean pictures, with 95 % confidence.

    Writes thresholds and evidence into the library, where every guard finds them, and DIR/calibration.json,
    DIR/histograms.png and DIR/roc.png. Warns where there are too few clean pictures for the rate.
    Needs: pip install "steerclear[calibrate]"

    \b
    steerclear calibrate --library protected --clean photos/ --fpr 0.01
    steerclear calibrate --library protected --clean ordinary.txt --seeds 0-3 --fpr 0.005 --out evidence
    """
    with one_line_errors("stopped: the library keeps its old thresholds"):
        check_folder(out)
        _check_extra()
        from steerclear.calibrate import altered, at_rate
        from steerclear.filters import inspect
        from steerclear.filters.library import FilterParts, library_filters

        shelf, encoders = recipes.open_library(library, recipes.model_folder(model))
        if not len(shelf):
            raise InputError(f"the library {library!r} is empty; add pictures before calibrating")
        # what it is flagged from is to be found out; until then, nothing is
        filters = library_filters(FilterParts(shelf, encoders, dict.fromkeys(_names(encoders), 2.0)))
        makers = _Makers(model, seeds, steps, guidance)

        def scored(pictures: Iterable[Image.Image]) -> dict[str, list[float]]:
            found: dict[str, list[float]] = {f.name: [] for f in filters}
            for picture in pictures:
                for one in inspect(filters, [picture])[0]:
                    if one.error:
                        raise InputError(f"the filter {one.filter!r} cannot be calibrated: {one.error}")
                    found[one.filter].append(one.score)
            return found

        ordinary = scored(makers.pictures(clean))
        if not ordinary["nearest"]:
            raise InputError(f"there are no pictures in {', '.join(map(repr, clean))}; give clean ones")
        copied = scored(makers.pictures(copies) if copies else altered(shelf.thumbnails()[1]))
        document, bounds = at_rate(ordinary, copied, fpr)
        document["evidence"] |= {"encoders": [str(spec) for spec in shelf.encoders], "sources": list(clean)}
        old = shelf.read_note("calibration") or {}
        # the early verdict belongs to a model, and what pulls to its prompts: neither is touched here
        kept: dict[str, Any] = {k: old[k] for k in ("early", "alternatives", "model") if k in old}
        from steerclear.plots import histograms, roc

        out.mkdir(parents=True, exist_ok=True)
        histograms(ordinary, copied, document["thresholds"], out / "histograms.png")
        roc(ordinary, copied, document["thresholds"], out / "roc.png")
        (out / "calibration.json").write_text(
            json.dumps({**document, "scores": {"clean": ordinary, "copies": copied}}, indent=1) + "\n"
        )
        shelf.write_note("calibration", {**kept, **document})
    for name, bound in bounds.items():
        row = document["evidence"]["by_filter"][name]
        typer.echo(
            f"{name:16} threshold {bound.threshold:.4f}: flags {bound.exceeding} of {bound.n} clean, at most "
            f"{bound.upper:.2%} with {bound.confidence:.0%} confidence; {row['copies_flagged']:.1%} of copies"
        )
    together = document["evidence"]
    typer.echo(
        f"together: at most {together['clear_upper']:.2%} of clean, {together['copies_flagged']:.1%} of copies"
    )
    short = [bound for bound in bounds.values() if not bound.enough]
    if short:
        from steerclear.conformal import needed

        typer.echo(
            f"warning: {short[0].n} clean pictures are too few to promise {fpr:.2%}: it takes {needed(fpr)}; the "
            f"thresholds flag none of yours",
            err=True,
        )
    typer.echo(f"evidence in {out}: calibration.json, histograms.png, roc.png")
    raise typer.Exit(OK)


class _Makers:
    """Pictures for words of the command line: read where they are, generated where they are prompts."""

    def __init__(self, model: str, seeds: str, steps: int, guidance: float | None) -> None:
        if guidance is None:
            guidance = recipes.usual_guidance(model)
        self.asked = recipes.check(recipes.Recipe(model=model, steps=steps, guidance=guidance))
        self.seeds = read_seeds(seeds)
        self._pipe: Any = None

    def pictures(self, words: Sequence[str]) -> Iterator[Image.Image]:
        from steerclear.library.images import read_image
        from steerclear.library.sources import discover

        for word in words:
            if word.endswith(".txt"):
                yield from self._generated(Path(word))
                continue
            sources, failed = discover([word])
            if failed:
                raise InputError(f"{failed[0][0]!r}: {failed[0][1]}")
            with progress(f"looking at {word}", len(sources)) as advance:
                for source in sources:
                    yield read_image(source.read(), name=source.ref)
                    advance()

    def _generated(self, file: Path) -> Iterator[Image.Image]:
        import torch

        from steerclear.pipelines import load_pipeline

        prompts = read_prompts((), file)
        if self._pipe is None:
            recipes._hush()
            self._pipe = load_pipeline(recipes.model_folder(self.asked.model) or self.asked.model)
        with progress(f"generating from {file}", len(prompts) * len(self.seeds)) as advance:
            for prompt in prompts:
                for seed in self.seeds:
                    generator = torch.Generator().manual_seed(seed)
                    yield self._pipe(
                        prompt, num_inference_steps=self.asked.steps, guidance_scale=self.asked.guidance, generator=generator
                    ).images[0]  # fmt: skip
                    advance()


def _names(encoders: Sequence[Any]) -> list[str]:
    others = [f"nearest {encoder.name}" for encoder in encoders[1:]]
    return ["nearest", *others, "pixel", "tiled"]


def _check_extra() -> None:
    from importlib.util import find_spec

    from steerclear.errors import ConfigError

    missing = [name for name in ("scipy", "matplotlib") if find_spec(name) is None]
    if missing:
        raise ConfigError(f"calibrating needs {missing[0]}; run: pip install 'steerclear[calibrate]'")
