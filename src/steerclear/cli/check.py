"""`steerclear check`: the filters' findings on pictures that exist already."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from steerclear.cli.inputs import whole_number
from steerclear.cli.opening import open_encoders, open_library
from steerclear.cli.options import (
    ConsentOption,
    DownloadOption,
    FilterOption,
    ProtectedOption,
    TrustOption,
)
from steerclear.cli.recipe import EMBEDDED
from steerclear.cli.recipe_options import read_filters
from steerclear.cli.terminal import BAD_INPUT, FLAGGED, OK, one_line_errors, print_error
from steerclear.errors import ImageError, InputError
from steerclear.library.images import MAX_FRAMES, read_frames
from steerclear.output import finite

if TYPE_CHECKING:
    from steerclear.filters import Filter
    from steerclear.filters.library import FilterParts
    from steerclear.types import Detection


def check(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE", help="Picture files.")],
    library: ProtectedOption = EMBEDDED,
    filter_names: FilterOption = None,
    encoder: ConsentOption = None,
    trust: TrustOption = False,
    allow_download: DownloadOption = False,
    model: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="A model folder that brings the copy descriptor that the library was built with.",
        ),
    ] = None,
    frames: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="N",
            help="Most frames of an animation, or pages of a TIFF, to check: of more, an even sample "
            "with the first and the last.",
        ),
    ] = MAX_FRAMES,
    smallest: Annotated[
        int | None,
        typer.Option(
            parser=whole_number,
            metavar="PIXELS",
            help="Side of the smallest copy to look for; by default two fifths of the picture's shorter "
            "side. Smaller ones take longer.",
        ),
    ] = None,
) -> None:
    """Say which pictures resemble a protected one.

    Prints one JSON object a line: file, flagged, and each filter's detection with score, threshold and match.
    A picture that cannot be read gets an error on stderr instead; the others are still checked.

    An animation is flagged where any of its frames is. Its line also says how many frames there are and how
    many were checked. Each detection then names its frame, counted from 1: all that are flagged, and of a
    filter that flags none the highest score.

    Exit codes: 0 none is flagged; 3 some are; 2 bad input or an unreadable picture.

    \b
    steerclear check picture.png
    steerclear check picture.png sketch.png --library protected
    steerclear check picture.png --filter hash
    steerclear check animation.gif --frames 200
    """
    with one_line_errors():
        from steerclear.filters.library import library_filters
        from steerclear.loading import filter_parts

        if model is not None and not model.is_dir():
            raise InputError(
                f"there is no model folder {str(model)!r}; give the one that brings the descriptor"
            )
        names = read_filters(filter_names or ())
        opened = open_library(library)
        opened.check_holds_items()
        encoders = open_encoders(opened, model, encoder or (), trust=trust, allow_download=allow_download)
        parts = filter_parts(opened, encoders, native=smallest)
        filters = [*library_filters(parts), *_image_filters(names, parts)]
        any_unreadable = any_flagged = False
        for path in images:
            try:
                line = _findings(path, filters, frames)
            except ImageError as error:
                print_error(error)
                any_unreadable = True
                continue
            any_flagged = any_flagged or bool(line["flagged"])
            typer.echo(json.dumps(finite({"file": str(path), **line})))
    raise typer.Exit(BAD_INPUT if any_unreadable else FLAGGED if any_flagged else OK)


def _findings(path: Path, filters: Sequence[Filter], limit: int) -> dict[str, Any]:
    """What the filters find in a file: in its only picture, or in at most `limit` frames."""
    from steerclear.filters import flagged, inspect

    rows: list[tuple[int, tuple[Detection, ...]]] = []
    count = 1
    for picture in read_frames(path, limit=limit):
        count = picture.info["frames"]
        rows.append((picture.info["frame"], inspect(filters, [picture])[0]))
    is_flagged = any(flagged(detections) for _, detections in rows)
    if count == 1:
        return {"flagged": is_flagged, "detections": [asdict(detection) for detection in rows[0][1]]}
    return {
        "flagged": is_flagged,
        "frames": count,
        "frames_checked": len(rows),
        "detections": [
            asdict(detection) | {"frame": frame}
            for column in range(len(filters))
            for frame, detection in _worth_telling([(frame, row[column]) for frame, row in rows])
        ],
    }


def _worth_telling(pairs: list[tuple[int, Detection]]) -> list[tuple[int, Detection]]:
    """Select what to print of one filter's detections in all frames: the flagged ones, else the highest
    score.
    """
    return [pair for pair in pairs if pair[1].flagged] or [max(pairs, key=lambda pair: pair[1].score)]


def _image_filters(names: Sequence[str], parts: FilterParts) -> list[Filter]:
    """The named filters. Raises InputError for one that looks at prompts or at the run of a pipeline."""
    from steerclear.filters import Filter
    from steerclear.filters.library import named_filters

    filters = []
    for name in names:
        for filter_ in named_filters(name, parts):
            if not isinstance(filter_, Filter):
                raise InputError(
                    f"the filter {name!r} sees prompts or a running pipeline, not finished pictures; "
                    "use it with `steerclear generate`"
                )
            filters.append(filter_)
    return filters
