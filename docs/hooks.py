"""What `make docs` adds to the pages: the reference of the command line, and two checks of links."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MARKER = "<!-- commands -->"
OUTSIDE = re.compile(r"\[([^\]]+)\]\(((?:\.\./)*\.\./(?:src|lab)/[^)]+)\)")
# what a browser would fetch from another host by itself; a plain link is no such thing
FETCHED = re.compile(
    r"""<(?:script|img|iframe|source|link)\b[^>]*(?:src|href)=["']?(?:https?:)?//[^"' >]+"""
    r"""|url\(["']?https?://"""
)
TYPE = re.compile(r" <[^>]*>$")  # an argument's Python type says nothing to a reader
CODE = re.compile(r"(`[^`]*`)")


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Fill the page of the command line; called by MkDocs for every page."""
    # a benchmark's page may link to a file of the repository, which the site does not hold
    markdown = OUTSIDE.sub(lambda link: f"{link[1]} (`{link[2].lstrip('./')}`)", markdown)
    if page.file.src_uri == "reference/cli.md":
        if MARKER not in markdown:
            raise ValueError(f"docs/{page.file.src_uri} has no {MARKER}")
        markdown = markdown.replace(MARKER, cli_reference())
    return markdown


def on_post_build(*, config: Any, **_: Any) -> None:
    """Refuse a site that loads anything from another host; called by MkDocs when all is written."""
    for file in Path(config["site_dir"]).rglob("*"):
        if file.suffix in (".html", ".css"):
            fetched = FETCHED.search(file.read_text(encoding="utf-8"))
            if fetched:
                raise ValueError(f"{file} loads something from another host: {fetched[0]}")


def cli_reference() -> str:
    """Markdown of every command of the installed `steerclear`, its arguments and its options."""
    import typer

    from steerclear.cli import app

    return "\n".join(_sections(typer.main.get_command(app), "steerclear", None))


def _sections(command: Any, name: str, parent: Any) -> Iterator[str]:
    context = command.context_class(command, info_name=name, parent=parent)
    words, examples = _help(command)
    yield f"{'#' * (context.command_path.count(' ') + 2)} `{context.command_path}`\n"
    yield f"{words}\n"
    yield f"```text\n{context.command_path} {' '.join(command.collect_usage_pieces(context))}\n```\n"
    records = [record for p in command.params if (record := p.get_help_record(context)) is not None]
    if records:
        yield "| option | what it is |\n|---|---|"
        yield from (f"| `{TYPE.sub('', option)}` | {_escaped(words)} |" for option, words in records)
        yield ""
    if examples:
        yield "Examples:\n\n```console\n" + "\n".join(f"$ {line}" for line in examples) + "\n```\n"
    for inner, subcommand in getattr(command, "commands", {}).items():
        yield from _sections(subcommand, inner, context)


def _help(command: Any) -> tuple[str, list[str]]:
    """A command's words, and the examples after them: the lines of the block that begins with a backspace."""
    words, _, block = inspect.cleandoc(command.help or "").partition("\b")
    return _escaped(words.strip()), [line.strip() for line in block.splitlines() if line.strip()]


def _escaped(text: str) -> str:
    """Text for a cell of a Markdown table; what stands between backticks stays code."""
    pieces = CODE.split(text.replace("|", "\\|"))
    return "".join(p if CODE.fullmatch(p) else re.sub(r"([*<])", r"\\\1", p) for p in pieces)
