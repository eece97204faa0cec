"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

from steerclear.cli.inputs import whole_number

DEFAULT_LIBRARY = "library"

# of the commands that look after a library
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
# of the commands that compare pictures with one
ProtectedOption = Annotated[
    str,
    typer.Option(
        "--library",
        "-l",
        metavar="DIR",
        help="Folder or address of the protected pictures; `embedded` is the library that comes with "
        "steerclear.",
    ),
]
FilterOption = Annotated[
    list[str] | None,
    typer.Option(
        "--filter",
        metavar="NAME",
        help="A further filter, by its name (hash, nudity, …) or as module:object; may be given several "
        "times.",
    ),
]
ConsentOption = Annotated[
    list[str] | None,
    typer.Option(
        "--encoder",
        metavar="NAME",
        help="The name of the encoder that the library was built with, if it does not ship inside: your "
        "consent to load it.",
    ),
]
TrustOption = Annotated[
    bool,
    typer.Option(
        "--trust", help="Also load an encoder whose format carries code: the TorchScript of sscd:FILE."
    ),
]
DownloadOption = Annotated[
    bool,
    typer.Option(
        "--allow-download", help="Also ask a model hub for an encoder that you name and that is not here."
    ),
]
StepsOption = Annotated[int, typer.Option(parser=whole_number, metavar="N", help="Denoising steps.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for other programs.")]
# of the commands that read or change what a server has recorded
DatabaseOption = Annotated[
    str,
    typer.Option(
        "--database",
        "-d",
        metavar="URL",
        envvar="STEERCLEAR_DATABASE",
        help="A SQLite file, or postgresql+psycopg://USER@HOST/NAME.",
    ),
]
