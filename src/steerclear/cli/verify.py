"""`steerclear verify`: what picture files say of where they come from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from steerclear.cli.terminal import BAD_INPUT, FLAGGED, OK, one_line_errors, print_error
from steerclear.errors import ConfigError, ImageError, InputError
from steerclear.library.files import read_file


def verify(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="PNG, JPEG or WebP files.")],
    trust: Annotated[
        Path | None,
        typer.Option(
            metavar="PEM", help="Certificates that you trust: only what they vouch for counts as verified."
        ),
    ] = None,
) -> None:
    """Say who signed a picture, and whether it was changed since.

    Prints one JSON object a line: file, state, signer, tool, actions, digital_source_type, problems. The
    state is Trusted where a certificate of --trust vouches for the signer, Valid where the file is as it was
    signed by a signer whom nobody vouches for, Invalid where it was changed, and null without credentials.
    Nothing is fetched from the network.

    Exit codes: 0 all files are as they were signed, and Trusted if --trust is given; 3 some are not; 2 bad
    input or an unreadable file.

    \b
    steerclear verify out/0000-0.png
    steerclear verify out/0000-0.png --trust root.pem
    """
    with one_line_errors():
        from steerclear.provenance import read

        anchors = None if trust is None else _anchors(trust)
        wanted = ("Valid", "Trusted") if anchors is None else ("Trusted",)
        any_unreadable = any_other = False
        for file in files:
            try:
                provenance = read(file, anchors)
            except (ImageError, InputError) as error:
                print_error(error)
                any_unreadable = True
                continue
            any_other = any_other or provenance.state not in wanted
            typer.echo(json.dumps({"file": str(file), **provenance.to_dict()}))
    raise typer.Exit(BAD_INPUT if any_unreadable else FLAGGED if any_other else OK)


def _anchors(file: Path) -> bytes:
    try:
        anchors = read_file(file)
    except (OSError, InputError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"cannot read --trust {str(file)!r}: {reason}") from error
    if b"-----BEGIN CERTIFICATE-----" not in anchors or not anchors.isascii():
        raise ConfigError(f"--trust {str(file)!r} holds no certificate in PEM")
    return anchors
