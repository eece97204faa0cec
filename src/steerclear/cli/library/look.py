"""The commands that only look into a library: list, show, search, stats, verify, log."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from steerclear.cli.inputs import read_names
from steerclear.cli.library.recognition import print_recognition
from steerclear.cli.options import DEFAULT_LIBRARY, DownloadOption, JsonOption, LibraryOption, TrustOption
from steerclear.cli.terminal import OK, PROBLEMS, echo, one_line_errors, print_json, print_table
from steerclear.library.store import Library


def list_items(
    library: LibraryOption = DEFAULT_LIBRARY,
    owner: Annotated[str | None, typer.Option(help="Only items of this owner.")] = None,
    tag: Annotated[str | None, typer.Option(help="Only items with this tag.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the items.

    \b
    steerclear library list -l protected
    steerclear library list -l protected --owner Acme --json
    """
    with one_line_errors():
        opened = Library.open(library)
        items = opened.items()
    items = [item for item in items if owner in (None, item.owner) and (tag is None or tag in item.tags)]
    if as_json:
        print_json([item.to_dict() for item in items])
        return
    rows = [
        (item.id, item.policy, item.owner, ", ".join(item.tags), item.caption, item.source) for item in items
    ]
    print_table(("id", "policy", "owner", "tags", "caption", "source"), rows)
    print_recognition(opened)


def show(
    item_id: Annotated[str, typer.Argument(metavar="ID")],
    library: LibraryOption = DEFAULT_LIBRARY,
    as_json: JsonOption = False,
) -> None:
    """Show everything the library holds about one item.

    \b
    steerclear library show fox -l protected
    """
    with one_line_errors():
        item = Library.open(library).get(item_id).to_dict()
    if as_json:
        print_json(item)
        return
    for name, value in item.items():
        echo(f"{name:8} {', '.join(value) if isinstance(value, list) else value}")


def search(
    image: Annotated[Path, typer.Argument(help="The picture to look for.")],
    library: LibraryOption = DEFAULT_LIBRARY,
    count: Annotated[int, typer.Option("-k", min=1, help="How many matches.")] = 5,
    encoder: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Compare with this encoder of the library; default: the first."),
    ] = None,
    trust: TrustOption = False,
    allow_download: DownloadOption = False,
    as_json: JsonOption = False,
) -> None:
    """Find the protected pictures most like IMAGE, by cosine.

    \b
    steerclear library search suspicious.png -l protected -k 3
    """
    with one_line_errors():
        matches = _search(
            Library.open(library),
            image,
            count=count,
            encoder=encoder,
            trust=trust,
            allow_download=allow_download,
        )
    if as_json:
        print_json([{"id": item_id, "score": score} for item_id, score in matches])
    else:
        print_table(("score", "id"), [(f"{score:.4f}", item_id) for item_id, score in matches])


def stats(library: LibraryOption = DEFAULT_LIBRARY, as_json: JsonOption = False) -> None:
    """Count items by owner and policy; show encoders, version and size.

    \b
    steerclear library stats -l protected --json
    """
    with one_line_errors():
        opened = Library.open(library)
        items, version = opened.items(), opened.version
    files = [path for path in Path(library).rglob("*") if path.is_file()] if Path(library).is_dir() else None
    figures: dict[str, Any] = {
        "items": len(items),
        "policies": dict(Counter(item.policy for item in items)),
        "owners": dict(Counter(item.owner for item in items)),
        "encoders": {
            spec.name: {"dim": spec.dim, "fingerprint": spec.fingerprint} for spec in opened.encoders
        },
        "version": version,
        "bytes": None if files is None else sum(path.stat().st_size for path in files),
    }
    if as_json:
        print_json(figures)
        return
    for name, value in figures.items():
        echo(f"{name:9} {json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else value}")


def verify(
    library: LibraryOption = DEFAULT_LIBRARY,
    sources: Annotated[bool, typer.Option("--sources", help="Also read every source file again.")] = False,
    allow_remote: Annotated[
        bool, typer.Option("--allow-remote", help="With --sources, also read addresses (with ://).")
    ] = False,
) -> None:
    """Read the whole library and list what is wrong with it; exit code 1 if anything is.

    \b
    steerclear library verify -l protected --sources
    """
    from steerclear.library.verify import verify as find_problems

    with one_line_errors():
        opened = Library.open(library)
        problems = find_problems(opened, sources=sources, remote=allow_remote)
        count = len(opened)
    for problem in problems:
        echo(f"{problem.id}: {problem.reason}", err=True)
    echo(f"{count} items, {len(problems)} problems")
    raise typer.Exit(PROBLEMS if problems else OK)


def log(library: LibraryOption = DEFAULT_LIBRARY) -> None:
    """List the versions of the library, oldest first, and what was purged: when, by whom and why.

    \b
    steerclear library log -l protected
    """
    with one_line_errors():
        opened = Library.open(library)
        versions, purges = opened.log(), opened.purges()
    rows = [
        (str(version.version), f"{version.committed:%Y-%m-%d %H:%M:%S} UTC", str(version.items))
        for version in versions
    ]
    print_table(("version", "committed", "items"), rows)
    for purge in purges:
        state = "" if purge.finished else "; not finished: run the same purge again"
        when = purge.when[:19].replace("T", " ")
        echo(f"purged {when} UTC by {purge.who}, {purge.items} items: {purge.why}{state}")
    print_recognition(opened)


def _search(
    library: Library, image: Path, *, count: int, encoder: str | None, trust: bool, allow_download: bool
) -> list[tuple[str, float]]:
    import torch

    from steerclear.encoders import check_consent, check_embedding, encoder_name, load_encoder
    from steerclear.library.images import read_image, square_tensor

    if encoder is None:
        spec = library.encoders[0]
        check_consent(spec.name, f"the library at {library.uri!r}")
    else:
        (name,) = read_names("encoder", [encoder])
        spec = library.spec(encoder_name(name))
    loaded = load_encoder(spec.name, fingerprint=spec.fingerprint, trust=trust, allow_download=allow_download)
    library.check_encoder(loaded)
    with torch.no_grad():
        query = loaded(square_tensor(read_image(image), loaded.size)[None])
    return library.index(spec.name).matches(check_embedding(query, loaded, 1), count)[0]
