"""`steerclear`: the command line, assembled from one module per command. Importing it loads no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import typer
import typer.core

from steerclear import plugins
from steerclear._version import __version__
from steerclear.cli.terminal import BAD_INPUT, STOPPED, print_error
from steerclear.errors import ConfigError

# the order in --help; commands of other packages follow
FIRST = ("generate", "batch", "check", "replay", "library", "calibrate", "serve", "verify", "keys", "audit")
# commands of the laboratory, which is a package of its own
LABORATORY_COMMANDS = {
    "bench": "Compare all methods of preventing copies, or run one of the paper's experiments.",
    "train-emoji": "Train the embedded model from scratch.",
}


class RegisteredCommands(Mapping[str, Any]):
    """The commands that installed packages register, by name; each is imported when it is first asked for."""

    def __init__(self) -> None:
        registered = plugins.names("command")
        self._names = list(dict.fromkeys((*FIRST, *registered, *LABORATORY_COMMANDS)))
        self._loaded: dict[str, Any] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, name: str) -> Any:
        if name not in self._names:
            raise KeyError(name)
        if name not in self._loaded:
            self._loaded[name] = _load(name)
        return self._loaded[name]


class CommandGroup(typer.core.TyperGroup):
    """The whole of `steerclear`, with the registered commands under it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.commands: Any = RegisteredCommands()

    def list_commands(self, ctx: Any) -> list[str]:
        """Names in the order of --help, without importing the commands."""
        return list(self.commands)


app = typer.Typer(
    name="steerclear",
    cls=CommandGroup,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"max_content_width": 120},
)


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
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
    """Run a command line.

    Args:
        arguments: what follows `steerclear`; by default the process's own arguments.

    Returns:
        The exit code.
    """
    try:
        code = app(
            args=None if arguments is None else list(arguments), prog_name="steerclear", standalone_mode=False
        )
    except KeyboardInterrupt:
        return STOPPED
    except Exception as error:
        # a wrong option or argument, recognised by its method: typer brings its own copy of click, or none
        message = getattr(error, "format_message", None)
        if message is None:
            raise
        context = getattr(error, "ctx", None)
        if type(error).__name__ == "NoArgsIsHelpError":
            typer.echo(message(), err=True)
        else:
            help_hint = f"; see {context.command_path} --help" if context is not None else ""
            print_error(f"{message().rstrip('.')}{help_hint}")
        return BAD_INPUT
    return code if isinstance(code, int) else 0


def _load(name: str) -> Any:
    """The command of that name: a registered function, a typer app, or one that says why there is none."""
    if name in LABORATORY_COMMANDS and not plugins.is_registered("command", name):
        install = f"pip install {plugins.LABORATORY}"
        return _unusable(
            name,
            help_text=f"{LABORATORY_COMMANDS[name]} Needs: {install}",
            summary=f"Not installed: {install}",
            message=f"`steerclear {name}` is part of the laboratory, which is not installed; run: {install}",
        )
    try:
        command = plugins.load("command", name)
    except ConfigError as error:  # a broken package must not take the other commands with it
        return _unusable(name, help_text=str(error), summary=f"Cannot be loaded: {error}", message=str(error))
    if isinstance(command, typer.Typer):
        return typer.main.get_group(command)
    return _single(name, command)


def _unusable(name: str, *, help_text: str, summary: str, message: str) -> Any:
    """A command that only says why it cannot run. summary: its line in the help of the whole."""

    def unusable() -> None:
        print_error(message)
        raise typer.Exit(BAD_INPUT)

    any_arguments = {"allow_extra_args": True, "ignore_unknown_options": True}
    return _single(name, unusable, help=help_text, short_help=summary, context_settings=any_arguments)


def _single(name: str, function: Any, **options: Any) -> Any:
    """A function as typer's command object."""
    holder = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    holder.command(name, **options)(function)
    return typer.main.get_command(holder)
