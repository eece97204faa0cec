"""`steerclear keys …`: who may use a server."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from steerclear.cli.options import DatabaseOption, JsonOption
from steerclear.cli.terminal import echo, one_line_errors, print_json, print_table

app = typer.Typer(
    name="keys",
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Keys of a server: add, list, revoke.\n\nExit codes: 0 done; 2 not done, the error says why.",
)


@app.command()
def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose key it is.")],
    database: DatabaseOption,
    scope: Annotated[
        list[str] | None,
        typer.Option(
            "--scope",
            metavar="SCOPE",
            help="generate, review or admin; may be given several times, and none includes another. "
            "Default: generate.",
        ),
    ] = None,
    rate: Annotated[
        int | None, typer.Option(metavar="N", help="Requests a minute; no limit by default.")
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option(metavar="N", help="Requests at once; no limit by default.")
    ] = None,
    days: Annotated[
        float | None, typer.Option(metavar="N", min=0.0, help="Refused after so many days; never by default.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key and print its secret, which cannot be shown again.

    \b
    steerclear keys add "web shop" --database records.db --rate 60
    steerclear keys add anna --database records.db --scope review
    """
    with one_line_errors():
        from steerclear.records import Records

        expires = None if days is None else datetime.now(UTC) + timedelta(days=days)
        with Records.open(database) as records:
            key, secret = records.keys.add(
                name, scope or ["generate"], rate=rate, concurrency=concurrency, expires=expires
            )
        if as_json:
            print_json(key.to_dict() | {"secret": secret})
            return
        echo(f"key {key.id} for {key.name!r}, scopes {', '.join(sorted(key.scopes))}", err=True)
        echo("keep this secret; it cannot be shown again:", err=True)
        echo(secret)


@app.command("list")
def list_keys(database: DatabaseOption, as_json: JsonOption = False) -> None:
    """List all keys, without their secrets."""
    with one_line_errors():
        from steerclear.records import Records

        with Records.open(database) as records:
            keys = records.keys.list()
        if as_json:
            print_json([key.to_dict() for key in keys])
            return
        rows = [
            [
                key.id,
                key.name,
                " ".join(sorted(key.scopes)),
                "-" if key.rate is None else str(key.rate),
                "-" if key.concurrency is None else str(key.concurrency),
                "-" if key.created is None else f"{key.created:%Y-%m-%d}",
                f"revoked {key.revoked:%Y-%m-%d}"
                if key.revoked
                else "expired"
                if key.expires and key.expires <= datetime.now(UTC)
                else f"until {key.expires:%Y-%m-%d}"
                if key.expires
                else "valid",
            ]
            for key in keys
        ]
        print_table(["id", "name", "scopes", "a minute", "at once", "made", "state"], rows)


@app.command()
def revoke(
    id: Annotated[str, typer.Argument(metavar="ID", help="The key's id, as `steerclear keys list` has it.")],
    database: DatabaseOption,
) -> None:
    """Refuse a key from now on, on all servers of the database."""
    with one_line_errors():
        from steerclear.records import Records

        with Records.open(database) as records:
            key = records.keys.revoke(id)
        echo(f"key {key.id} of {key.name!r} is refused")
