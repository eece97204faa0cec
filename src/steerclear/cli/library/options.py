"""Options that several commands of `steerclear library` share."""

from __future__ import annotations

from typing import Annotated

import typer

DEFAULT_LIBRARY = "library"

LibraryOption = Annotated[
    str,
    typer.Option(
        "--library",
        "-l",
        metavar="DIR",
        envvar="STEERCLEAR_LIBRARY",
        help="Folder or address of the library.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for other programs.")]
