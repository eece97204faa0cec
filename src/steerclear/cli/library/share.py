"""`steerclear library share`: enforce an item for a share of the seeds alone."""

from __future__ import annotations

from typing import Annotated

import typer

from steerclear.cli.inputs import number
from steerclear.cli.options import DEFAULT_LIBRARY, JsonOption, LibraryOption
from steerclear.cli.terminal import echo, one_line_errors, print_json, print_table
from steerclear.errors import InputError
from steerclear.library.rollout import WHOLE, set_share, shares
from steerclear.library.store import Library


def share(
    item_id: Annotated[str | None, typer.Argument(metavar="[ID]")] = None,
    percent: Annotated[
        float | None, typer.Argument(parser=number, metavar="[PERCENT]", help="Of the seeds, 0 to 100.")
    ] = None,
    library: LibraryOption = DEFAULT_LIBRARY,
    why: Annotated[str, typer.Option(metavar="TEXT", help="For whoever looks it up later.")] = "",
    database: Annotated[
        str | None,
        typer.Option(
            "--database",
            "-d",
            metavar="URL",
            envvar="STEERCLEAR_DATABASE",
            help="Record the change in the audit of a server as well.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Enforce an item for PERCENT of the seeds alone; without ID, list such items.

    THIS WEAKENS THE PROMISE. For the other seeds a picture that resembles the item is handed out; its report
    says `observed`, and names the item. 0 means "observe only", 100 is what every item has at first.
    Guards that run follow it with their next request.

    \b
    steerclear library share fox 0 --why "a flood of false alarms" -l protected
    steerclear library share fox 100 -l protected
    """
    with one_line_errors():
        opened = Library.open(library)
        if item_id is not None:
            if percent is None:
                raise InputError(f"say for how many per cent of the seeds {item_id!r} is enforced, 0 to 100")
            changed = set_share(opened, item_id, percent=percent, why=why)
            if database is not None:
                from steerclear.records import Records

                with Records.open(database) as records:
                    records.note_share(item_id, percent, why)
            if changed.percent == WHOLE:
                echo(f"{item_id} is enforced for all seeds")
            else:
                echo(
                    f"{item_id} is enforced for {changed.percent:g} % of the seeds; for the others a copy of "
                    "it is handed out, and its report says `observed`"
                )
            return
        listed = shares(opened)
    if as_json:
        rows = [
            {"id": s.item, "percent": s.percent, "why": s.why, "since": s.since.isoformat()} for s in listed
        ]
        print_json(rows)
        return
    print_table(
        ("id", "enforced", "since", "why"),
        [(s.item, f"{s.percent:g} %", f"{s.since:%Y-%m-%d %H:%M} UTC", s.why) for s in listed],
    )
