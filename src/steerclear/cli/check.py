"""`steerclear check`: the filters' findings on pictures that exist already."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from steerclear.cli.inputs import BAD_INPUT, FLAGGED, OK, complain, one_line_errors
from steerclear.cli.recipe import EMBEDDED, open_library
from steerclear.errors import ImageError, InputError
from steerclear.library.images import read_image
from steerclear.output import finite


def check(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE", help="Picture files.")],
    library: Annotated[
        str,
        typer.Option(
            "--library", "-l", metavar="DIR", help="The protected pictures, or the embedded library."
        ),
    ] = EMBEDDED,
    model: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="A model folder that brings the copy descriptor its library was built with.",
        ),
    ] = None,
) -> None:
    """Say which pictures resemble a protected one.

    Prints one JSON object a line: file, flagged, and each filter's detection with score, threshold and match.
    A picture that cannot be read gets an error on stderr instead; the others are checked all the same.

    Exit codes: 0 none is flagged; 3 some are; 2 bad input, an unreadable picture among it.

    \b
    steerclear check picture.png
    steerclear check picture.png sketch.png --library protected
    """
    with one_line_errors("stopped"):
        from steerclear.filters import flagged, inspect
        from steerclear.filters.library import library_filters
        from steerclear.loading import filter_parts

        if model is not None and not model.is_dir():
            raise InputError(
                f"there is no model folder {str(model)!r}; give the one that brings the descriptor"
            )
        shelf, encoders = open_library(library, model)
        filters = library_filters(filter_parts(shelf, encoders))
        unreadable = hit = False
        for path in images:
            try:
                picture = read_image(path)
            except ImageError as error:
                complain(error)
                unreadable = True
                continue
            found = inspect(filters, [picture])[0]
            hit = hit or flagged(found)
            line = {"file": str(path), "flagged": flagged(found), "detections": [asdict(d) for d in found]}
            typer.echo(json.dumps(finite(line)))
    raise typer.Exit(BAD_INPUT if unreadable else FLAGGED if hit else OK)
