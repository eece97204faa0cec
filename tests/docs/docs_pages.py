"""The pages of the documentation, and the code blocks and links that they hold."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
BENCHMARKS = DOCS / "benchmarks"
GUIDES = [ROOT / "README.md", *sorted(p for p in DOCS.rglob("*.md") if BENCHMARKS not in p.parents)]
EVERYTHING = [ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *GUIDES, *sorted(BENCHMARKS.glob("*.md"))]

FENCE = re.compile(
    r"(?:^<!-- not run: (?P<reason>[^\n]+?) -->\n)?"
    r"^```(?P<language>\w*)(?P<info>[^\n]*)\n(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes:
        language: what stands after the fence, such as "python".
        title: the file that the block is the content of, if it says so.
        text: what stands inside.
        reason: why it is not run, from the comment `<!-- not run: … -->` above it.
        prints: the text block right after it, which is what a Python block prints.
    """

    language: str
    title: str | None
    text: str
    reason: str | None
    prints: str | None


def name_of(page: Path) -> str:
    """The page's path in the repository, as a test's id."""
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    matches = list(FENCE.finditer(text))
    out = []
    for match, following in zip_longest(matches, matches[1:]):
        title = re.search(r'title="([^"]+)"', match["info"])
        prints = None
        if following is not None and following["language"] == "text":
            adjacent = not text[match.end() : following.start()].strip()
            prints = following["text"] if adjacent else None
        out.append(
            Block(
                language=match["language"],
                title=title[1] if title else None,
                text=match["text"],
                reason=match["reason"],
                prints=prints,
            )
        )
    return out


def commands(block: Block) -> Iterator[str]:
    """The command lines of a shell block, continued lines joined, prompts and comments taken off."""
    for line in block.text.replace("\\\n", " ").splitlines():
        command = line.removeprefix("$ ").strip()
        if command and not command.startswith("#"):
            yield command


def words(command: str) -> list[str]:
    """A command line as a shell splits it, without what comes after a redirection."""
    pieces = shlex.split(command, comments=True)
    return pieces[: pieces.index(">")] if ">" in pieces else pieces


def prose(page: Path) -> str:
    """The page without code, in which brackets are no links."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`\n]*`", "", text)


def anchors(page: Path) -> set[str]:
    """What a link to a heading of this page may end with."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return {slug(heading) for heading in HEADING.findall(text)}


def slug(heading: str) -> str:
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    return re.sub(r"[^\w\- ]", "", plain.lower()).strip().replace(" ", "-")
