"""`steerclear calibrate`: thresholds of a library's filters at a false-positive rate that the user states."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from steerclear.cli.inputs import check_folder, number, read_prompts, read_seeds, whole_number
from steerclear.cli.opening import (
    library_filter_names,
    model_folder,
    open_encoders,
    open_library,
    usual_guidance,
)
from steerclear.cli.recipe import EMBEDDED, Recipe, check_recipe
from steerclear.cli.terminal import OK, one_line_errors, progress, quiet_libraries
from steerclear.errors import ConfigError, InputError

if TYPE_CHECKING:
    from PIL import Image

    from steerclear.conformal import Bounded
    from steerclear.filters import Filter

NEEDED = ("scipy", "matplotlib")  # the extra `calibrate`
NOTHING_FLAGGED = 2.0  # a threshold that no score reaches


def calibrate(
    clean: Annotated[
        list[str],
        typer.Option(
            metavar="IMAGES_OR_PROMPTS",
            help="What must not be flagged: pictures (file, folder or glob), or a .txt file of prompts to "
            "generate from, one a line. May be given several times.",
        ),
    ],
    library: Annotated[
        str,
        typer.Option(
            "--library",
            "-l",
            metavar="DIR",
            envvar="STEERCLEAR_LIBRARY",
            help="Folder or address of the library to calibrate.",
        ),
    ],
    fpr: Annotated[
        float,
        typer.Option(
            parser=number, metavar="RATE", help="Highest false-positive rate that each filter may have."
        ),
    ] = 0.01,
    copies: Annotated[
        list[str] | None,
        typer.Option(
            metavar="IMAGES_OR_PROMPTS",
            help="What should be flagged; default: altered copies of the library's own pictures.",
        ),
    ] = None,
    encoder: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Only for a library that was built with a module:object: that name again, as your consent "
            "to import it.",
        ),
    ] = None,
    model: Annotated[
        str,
        typer.Option(metavar="FOLDER_OR_ID", help="What generates from prompts, as in `generate`."),
    ] = EMBEDDED,
    seeds: Annotated[str, typer.Option(metavar="LIST", help="For each prompt, as in `generate`.")] = "0",
    steps: Annotated[int, typer.Option(parser=whole_number, metavar="N", help="Denoising steps.")] = 25,
    guidance: Annotated[
        float | None, typer.Option(parser=number, metavar="X", help="Guidance scale, as in `generate`.")
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the figures go.")] = Path("calibration"),
) -> None:
    """Set the filters' thresholds at a false-positive rate.

    Each filter will flag at most RATE of clean pictures, with 95 % confidence.
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
        from steerclear.calibrate import altered_copies, thresholds_at_rate
        from steerclear.filters.library import FilterParts, library_filters

        opened = open_library(library)
        opened.check_holds_items()
        encoders = open_encoders(opened, model_folder(model), encoder or ())
        # the scores alone count here: the thresholds are what is to be found
        no_thresholds = dict.fromkeys(library_filter_names(encoders), NOTHING_FLAGGED)
        filters = library_filters(FilterParts(library=opened, encoders=encoders, thresholds=no_thresholds))
        sources = _PictureSources(model, seeds=seeds, steps=steps, guidance=guidance)
        clean_scores = _scores(filters, sources.pictures(clean))
        if not clean_scores["nearest"]:
            raise InputError(f"there are no pictures in {', '.join(map(repr, clean))}; give clean ones")
        copied = sources.pictures(copies) if copies else altered_copies(opened.thumbnails()[1])
        copy_scores = _scores(filters, copied)
        document, bounds = thresholds_at_rate(clean_scores, copy_scores, fpr)
        document["evidence"] |= {
            "encoders": [str(spec) for spec in opened.encoders],
            "sources": list(clean),
        }
        _write_figures(out, clean_scores, copy_scores, document)
        previous = opened.read_note("calibration") or {}
        # the early verdict belongs to a model, and the alternatives to its prompts: neither is touched here
        kept: dict[str, Any] = {
            key: previous[key] for key in ("early", "alternatives", "model") if key in previous
        }
        opened.write_note("calibration", {**kept, **document})
    _print_results(document["evidence"], bounds, fpr=fpr, out=out)
    raise typer.Exit(OK)


def _scores(filters: Sequence[Filter], pictures: Iterable[Image.Image]) -> dict[str, list[float]]:
    """Every filter's score on each picture. Raises InputError when a filter fails."""
    from steerclear.filters import inspect

    scores: dict[str, list[float]] = {filter_.name: [] for filter_ in filters}
    for picture in pictures:
        for detection in inspect(filters, [picture])[0]:
            if detection.error:
                raise InputError(f"the filter {detection.filter!r} cannot be calibrated: {detection.error}")
            scores[detection.filter].append(detection.score)
    return scores


def _write_figures(
    out: Path,
    clean: Mapping[str, Sequence[float]],
    copies: Mapping[str, Sequence[float]],
    document: Mapping[str, Any],
) -> None:
    from steerclear.plots import histograms, roc

    out.mkdir(parents=True, exist_ok=True)
    for draw in (histograms, roc):
        draw(
            clean=clean,
            copies=copies,
            thresholds=document["thresholds"],
            file=out / f"{draw.__name__}.png",
        )
    evidence = {**document, "scores": {"clean": clean, "copies": copies}}
    (out / "calibration.json").write_text(json.dumps(evidence, indent=1) + "\n")


def _print_results(
    evidence: Mapping[str, Any], bounds: Mapping[str, Bounded], *, fpr: float, out: Path
) -> None:
    for name, bound in bounds.items():
        copies_flagged = evidence["by_filter"][name]["copies_flagged"]
        typer.echo(
            f"{name:16} threshold {bound.threshold:.4f}: flags {bound.exceeding} of {bound.n} clean, at most "
            f"{bound.upper:.2%} with {bound.confidence:.0%} confidence; {copies_flagged:.1%} of copies"
        )
    typer.echo(
        f"together: at most {evidence['clear_upper']:.2%} of clean, "
        f"{evidence['copies_flagged']:.1%} of copies"
    )
    too_few = [bound for bound in bounds.values() if not bound.enough]
    if too_few:
        from steerclear.conformal import needed

        typer.echo(
            f"warning: {too_few[0].n} clean pictures are too few to promise {fpr:.2%}: "
            f"it takes {needed(fpr)}; the thresholds flag none of yours",
            err=True,
        )
    typer.echo(f"evidence in {out}: calibration.json, histograms.png, roc.png")


class _PictureSources:
    """Turns arguments into pictures: reads files, generates from lists of prompts.

    Attributes:
        recipe: model, steps and guidance of what is generated.
        seeds: of what is generated, for each prompt.
    """

    def __init__(self, model: str, *, seeds: str, steps: int, guidance: float | None) -> None:
        guidance = usual_guidance(model) if guidance is None else guidance
        self.recipe = Recipe(model=model, steps=steps, guidance=guidance)
        check_recipe(self.recipe)
        self.seeds = read_seeds(seeds)
        self._pipe: Any = None

    def pictures(self, arguments: Sequence[str]) -> Iterator[Image.Image]:
        """The pictures of all arguments, one after the other.

        Args:
            arguments: files, folders and globs of pictures, or .txt files of prompts.

        Raises:
            InputError: for what cannot be read.
        """
        from steerclear.library.images import read_image
        from steerclear.library.sources import discover

        for argument in arguments:
            if argument.endswith(".txt"):
                yield from self._generated(Path(argument))
                continue
            sources, failed = discover([argument])
            if failed:
                raise InputError(f"{failed[0][0]!r}: {failed[0][1]}")
            with progress(f"scoring {argument}", len(sources)) as advance:
                for source in sources:
                    yield read_image(source.read(), name=source.ref)
                    advance()

    def _generated(self, file: Path) -> Iterator[Image.Image]:
        import torch

        from steerclear.pipelines import load_pipeline

        prompts = read_prompts((), file)
        if self._pipe is None:
            quiet_libraries()
            self._pipe = load_pipeline(model_folder(self.recipe.model) or self.recipe.model)
        with progress(f"generating from {file}", len(prompts) * len(self.seeds)) as advance:
            for prompt in prompts:
                for seed in self.seeds:
                    output = self._pipe(
                        prompt,
                        num_inference_steps=self.recipe.steps,
                        guidance_scale=self.recipe.guidance,
                        generator=torch.Generator().manual_seed(seed),
                    )
                    yield output.images[0]
                    advance()


def _check_extra() -> None:
    from importlib.util import find_spec

    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise ConfigError(f"calibrating needs {missing[0]}; run: pip install 'steerclear[calibrate]'")
