"""`steerclear`: the command line, one file a command; here they are put together. Cheap to import: no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from steerclear import __version__
from steerclear.cli.bench import bench
from steerclear.cli.calibrate import calibrate
from steerclear.cli.check import check
from steerclear.cli.generate import generate
from steerclear.cli.inputs import BAD_INPUT, STOPPED, complain
from steerclear.cli.replay import replay
from steerclear.cli.train import train_emoji
from steerclear.library.cli import app as library_app

app = typer.Typer(
    name="steerclear",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"max_content_width": 120},
)
app.command("generate")(generate)
app.command("check")(check)
app.command("replay")(replay)
app.command("calibrate")(calibrate)
app.command("bench")(bench)
app.add_typer(library_app, name="library")
app.command("train-emoji")(train_emoji)


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,
) -> None:
    """Image generation that steers around protected pictures instead of refusing.

    \b
    steerclear --version
    steerclear generate "a cat, noto style"
    """
    if version:
        typer.echo(f"steerclear {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line, by default the process's own, and return its exit code."""
    try:
        code = app(
            args=None if arguments is None else list(arguments), prog_name="steerclear", standalone_mode=False
        )
    except KeyboardInterrupt:
        return STOPPED
    except Exception as error:
        # a wrong option or argument, told apart by what it can do: typer brings its own copy of click, or none
        message = getattr(error, "format_message", None)
        if message is None:
            raise
        context = getattr(error, "ctx", None)
        if type(error).__name__ == "NoArgsIsHelpError":
            typer.echo(message(), err=True)
        else:
            where = f"; see {context.command_path} --help" if context is not None else ""
            complain(f"{message().rstrip('.')}{where}")
        return BAD_INPUT
    return code if isinstance(code, int) else 0
