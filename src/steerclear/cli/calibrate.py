"""`steerclear calibrate`: thresholds of a library's filters at a false-positive rate that the user states."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from steerclear.cli.calibration_results import LIKELY_COPIES, print_results
from steerclear.cli.inputs import check_folder, number, whole_number
from steerclear.cli.opening import library_filter_names, model_folder, open_encoders, open_library
from steerclear.cli.options import ConsentOption, DownloadOption, LibraryOption, StepsOption, TrustOption
from steerclear.cli.picture_sources import PictureSources
from steerclear.cli.recipe import EMBEDDED
from steerclear.cli.terminal import OK, one_line_errors, progress
from steerclear.errors import ConfigError, InputError

if TYPE_CHECKING:
    from PIL import Image

    from steerclear.calibrate import AlteredCopy, Clean, LikelyCopy
    from steerclear.encoders import Encoder
    from steerclear.filters import Filter
    from steerclear.library import Library

NEEDED = ("scipy", "matplotlib")  # the extra `calibrate`
NOTHING_FLAGGED = 1e9  # a threshold that no score reaches


class SettingsChoice(StrEnum):
    """At which settings pictures are generated from prompts."""

    varied = "varied"
    fixed = "fixed"


def calibrate(
    clean: Annotated[
        list[str],
        typer.Option(
            metavar="IMAGES_OR_PROMPTS",
            help="What must not be flagged: pictures (file, folder or glob), or a .txt file of prompts to "
            "generate from, one a line. May be given several times.",
        ),
    ],
    library: LibraryOption,
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
            help="What should be flagged, as well as the altered copies of the library's own pictures.",
        ),
    ] = None,
    copies_of: Annotated[
        int,
        typer.Option(
            parser=whole_number,
            metavar="N",
            help="Alter at most so many pictures of the library, an evenly spaced sample.",
        ),
    ] = 200,
    negatives: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Pictures that reviewers have overruled, as `steerclear audit negatives --out` writes them: "
            "they count as clean even where they look like a copy.",
        ),
    ] = None,
    encoder: ConsentOption = None,
    trust: TrustOption = False,
    allow_download: DownloadOption = False,
    model: Annotated[
        str,
        typer.Option(metavar="FOLDER_OR_ID", help="What generates from prompts, as in `generate`."),
    ] = EMBEDDED,
    seeds: Annotated[str, typer.Option(metavar="LIST", help="For each prompt, as in `generate`.")] = "0",
    steps: StepsOption = 25,
    guidance: Annotated[
        float | None, typer.Option(parser=number, metavar="X", help="Guidance scale, as in `generate`.")
    ] = None,
    settings: Annotated[
        SettingsChoice,
        typer.Option(
            help="Generate at settings around --steps and --guidance, several sizes, negative prompts and "
            "samplers (varied), or at --steps and --guidance alone (fixed)."
        ),
    ] = SettingsChoice.varied,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the figures go.")] = Path("calibration"),
) -> None:
    """Set the filters' thresholds at a false-positive rate, and say what they see.

    Each filter will flag at most RATE of clean pictures, with 95 % confidence. Clean pictures that show a
    protected one are left out, and written to DIR/likely-copies for you to look at.
    Then the library's pictures are altered in many ways, such as mirrored, cropped or under text, and a
    table says how many of these copies the filters flag, and which ways they are blind to.
    Writes thresholds and evidence into the library, where every guard finds them, and DIR/calibration.json,
    DIR/histograms.png and DIR/roc.png. Of the prompts, those whose pictures came out clear are kept in the
    library as well, for this model: what is drawn instead of a flagged prompt is chosen among them.
    Warns where there are too few clean pictures for the rate.
    Needs: pip install "steerclear[calibrate]"

    \b
    steerclear calibrate --library protected --clean photos/ --fpr 0.01
    steerclear calibrate --library protected --clean ordinary.txt --seeds 0-3 --fpr 0.005 --out evidence
    """
    with one_line_errors("stopped: the library keeps its old thresholds"):
        check_folder(out)
        _check_extra()
        from steerclear.conformal import needed

        needed(fpr)  # a rate that makes no sense is refused before anything costly begins
        if copies_of < 1:
            raise InputError(f"--copies-of is {copies_of}; alter at least 1 picture of the library")
        from steerclear.calibrate import (
            Clean,
            bounded_thresholds,
            by_alteration,
            calibration,
            mostly_missed,
            scores,
        )

        opened = open_library(library)
        opened.check_holds_items()
        encoders = open_encoders(
            opened, model_folder(model), encoder or (), trust=trust, allow_download=allow_download
        )
        filters = _filters(opened, encoders)
        sources = PictureSources(
            model, seeds=seeds, steps=steps, guidance=guidance, varied=settings is SettingsChoice.varied
        )
        overruled = sources.pictures([str(negatives)]) if negatives is not None else ()
        known = Clean.of(filters, sources.pictures(clean), overruled)
        drawn_at = sources.settings  # None where all clean pictures were read from files
        if not known.first:
            raise InputError(f"there are no pictures in {', '.join(map(repr, clean))}; give clean ones")
        bounds = bounded_thresholds(known.scores, fpr)
        thresholds = {name: bound.threshold for name, bound in bounds.items()}
        altered = _altered(filters, library=opened, neighbours=known.neighbours(thresholds), most=copies_of)
        given = scores(filters, sources.pictures(copies)) if copies else None
        copy_scores = given or {f.name: [copy.scores[f.name] for copy in altered] for f in filters}
        document = calibration(bounds, known.scores, copy_scores)
        document["evidence"] |= {
            "encoders": [str(spec) for spec in opened.encoders],
            "sources": list(clean),
            "settings": drawn_at,
            "left_out": known.left_out,
            "likely_copies": [_named(copy) for copy in known.likely_copies],
            "negatives": known.overruled,
            "negatives_flagged": known.overruled_flagged(thresholds),
            "items": len(opened),
            "items_altered": len({copy.item for copy in altered}),
            "by_alteration": by_alteration(altered, thresholds),
            "unrecognisable": _unrecognisable(filters),
            "plain": _plain(filters),
            "mostly_missed": mostly_missed(altered, thresholds),
        }
        _write_evidence(out, clean=known.scores, copies=copy_scores, document=document)
        _write_pictures(out, known.likely_copies)
        previous = opened.read_note("calibration") or {}
        # the early verdict belongs to a model, and the alternatives to its prompts: neither is touched here
        kept: dict[str, Any] = {
            key: previous[key] for key in ("early", "alternatives", "model") if key in previous
        }
        opened.write_note("calibration", {**kept, **document})
        if sources.pipe is not None:
            _keep_prompts(opened, sources=sources, known=known, strict=document["strict"])
    print_results(document["evidence"], out, copies_given=copies is not None)
    raise typer.Exit(OK)


def _keep_prompts(
    library: Library, sources: PictureSources, known: Clean, strict: Mapping[str, float]
) -> None:
    """Note what the clean prompts say of the model that drew them, beside what is known of other models."""
    from steerclear.calibrate import note_of, ordinary_prompts
    from steerclear.fingerprints import sampled_fingerprint
    from steerclear.generators.accepted import denoiser_of
    from steerclear.loading import ORDINARY_PROMPTS
    from steerclear.protected import Protected

    prompts = [prompt for prompt in known.prompts if prompt is not None]
    model = sampled_fingerprint(denoiser_of(sources.pipe))
    if not prompts or model is None:
        return
    ordinary = ordinary_prompts(
        sources.pipe,
        protected=Protected.of(sources.pipe, library),
        prompts=prompts,
        clear=known.clear_prompts(strict),
        steps=sources.recipe.steps,
    )
    before = library.read_note(ORDINARY_PROMPTS) or {}
    library.write_note(ORDINARY_PROMPTS, {**before, model: note_of(ordinary)})


def _filters(library: Library, encoders: Sequence[Encoder]) -> list[Filter]:
    """The filters over a library, at thresholds that no score reaches, since the thresholds are yet to be
    chosen.
    """
    from steerclear.filters.library import FilterParts, library_filters

    no_thresholds = dict.fromkeys(library_filter_names(encoders), NOTHING_FLAGGED)
    return library_filters(FilterParts(library=library, encoders=encoders, thresholds=no_thresholds))


def _altered(
    filters: Sequence[Filter], library: Library, neighbours: Sequence[Image.Image], most: int
) -> list[AlteredCopy]:
    from steerclear.calibrate import altered_copies, protected_pictures

    pictures = protected_pictures(library, most)
    with progress("scoring altered copies", len(pictures)) as advance:

        def each() -> Iterator[tuple[str, Image.Image]]:
            for number, pair in enumerate(pictures):
                advance(number)
                yield pair

        return list(altered_copies(filters, each(), neighbours))


def _unrecognisable(filters: Sequence[Filter]) -> list[str]:
    """Ids of the items in which the copy detector has nothing to go by."""
    from steerclear.copy_detection import CopyFilter

    return [item for f in filters if isinstance(f, CopyFilter) for item in f.detector.unseen]


def _plain(filters: Sequence[Filter]) -> list[str]:
    """Ids of the items that the copy detector is sure to find nearly unaltered only."""
    from steerclear.copy_detection import CopyFilter

    return [item for f in filters if isinstance(f, CopyFilter) for item in f.detector.plain]


def _named(copy: LikelyCopy) -> dict[str, Any]:
    """A likely copy as the evidence records it."""
    return {"picture": copy.picture.origin, "matched": copy.matched, "agreement": round(copy.agreement, 4)}


def _write_pictures(out: Path, copies: Sequence[LikelyCopy]) -> None:
    """Write the likely copies, since what was generated lies in no file yet."""
    for i, copy in enumerate(copies):
        (out / LIKELY_COPIES).mkdir(exist_ok=True)
        copy.picture.image.save(out / LIKELY_COPIES / f"{i}.png")


def _write_evidence(
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


def _check_extra() -> None:
    from importlib.util import find_spec

    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise ConfigError(f"calibrating needs {missing[0]}; run: pip install 'steerclear[calibrate]'")
