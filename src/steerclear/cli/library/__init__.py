"""`steerclear library …`: the commands that look after the protected pictures."""

from __future__ import annotations

import typer

from steerclear.cli.library.add import add
from steerclear.cli.library.change import export, index, remove, restore
from steerclear.cli.library.look import list_items, log, search, show, stats, verify
from steerclear.cli.library.share import share
from steerclear.cli.library.upkeep import compact, migrate, purge

__all__ = ["app"]

app = typer.Typer(
    name="library",
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Protected pictures: add, list, search, remove.\n\n"
    "Exit codes: 0 done; 1 done, with failures or problems listed; 2 not done, the error says why.",
)

app.command("add")(add)
app.command("list")(list_items)
for command in (
    show,
    share,
    remove,
    search,
    stats,
    verify,
    index,
    export,
    log,
    restore,
    compact,
    purge,
    migrate,
):
    app.command()(command)
