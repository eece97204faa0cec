"""`steerclear`: the command line, one file a command; here they are put together. Cheap to import: no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from steerclear import plugins
from steerclear._version import __version__
from steerclear.cli.inputs import BAD_INPUT, STOPPED, complain
from steerclear.errors import ConfigError

FIRST = ("generate", "check", "replay", "library", "calibrate")  # in this order; then what other packages add
# commands of the laboratory, which is a package of its own
IN_THE_LABORATORY = {
    "bench": "Compare every rival, or run one of the paper's experiments.",
    "train-emoji": "Train the embedded model from nothing.",
}

app = typer.Typer(
    name="steerclear",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"max_content_width": 120},
)


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


def _add_commands() -> None:
    """Every registered command: a function, or a typer app with commands of its own."""
    registered = plugins.names("command")
    for name in (*FIRST, *(n for n in registered if n not in FIRST)):
        try:
            command = plugins.load("command", name)
        except ConfigError as error:  # another package's fault must not take the other commands along
            _add_unusable(name, f"Cannot be loaded: {error}", str(error))
            continue
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
        else:
            app.command(name)(command)
    for name, purpose in IN_THE_LABORATORY.items():
        if name not in registered:
            way_out = f"`steerclear {name}` is part of the laboratory; run: pip install {plugins.LABORATORY}"
            _add_unusable(name, f"{purpose} Needs: pip install {plugins.LABORATORY}", way_out)


def _add_unusable(name: str, help_text: str, message: str) -> None:
    def unusable() -> None:
        complain(message)
        raise typer.Exit(BAD_INPUT)

    takes_anything = {"allow_extra_args": True, "ignore_unknown_options": True}
    register: Callable[[Any], Any] = app.command(name, help=help_text, context_settings=takes_anything)
    register(unusable)


_add_commands()
