"""`steerclear library …`: the commands that look after the protected pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from steerclear.cli.terminal import one_line_errors, print_json, print_table, progress_bar
from steerclear.embedded import MODEL_FOLDER
from steerclear.encoders import DEFAULT as DEFAULT_ENCODER
from steerclear.encoders import encoder_name, load_encoder
from steerclear.errors import InputError, LibraryError
from steerclear.library.ingest import add
from steerclear.library.schema import POLICIES, Policy
from steerclear.library.store import Library
from steerclear.plugins import check_registered

if TYPE_CHECKING:
    from steerclear.encoders.base import Encoder

app = typer.Typer(
    name="library",
    no_args_is_help=True,
    rich_markup_mode=None,
    help="The protected pictures: add, list, search, remove.\n\n"
    "Exit codes: 0 all is well; 1 done, with failures or problems listed; 2 not done, the error says why.",
)

Where = Annotated[
    str,
    typer.Option("--library", "-l", metavar="DIR", envvar="STEERCLEAR_LIBRARY", help="Folder or URI."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for other programs.")]
DEFAULT = "library"


@app.command("add")
def add_command(
    paths: Annotated[
        list[str],
        typer.Argument(
            help="Files, folders (also of datasets), globs, .txt/.csv/.parquet lists, .tar shards."
        ),
    ],
    library: Where = DEFAULT,
    owner: Annotated[str, typer.Option(help="Who holds the rights.")] = "",
    licence: Annotated[str, typer.Option(help="Licence or contract.")] = "",
    note: Annotated[str, typer.Option(help="Anything a reviewer should know.")] = "",
    tag: Annotated[list[str] | None, typer.Option(help="May be given several times.")] = None,
    policy: Annotated[
        str, typer.Option(help="steer (nudge copies away) or withhold (hand out nothing).")
    ] = "steer",
    captions: Annotated[
        Path | None, typer.Option(help="JSON object: path, file name or stem → caption.")
    ] = None,
    encoder: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Of a new library, may be given several times: descriptor (default) or clip, which ship inside, "
            "transformers:NAME_OR_FOLDER, sscd:FILE, vae:MODEL.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER_OR_ID",
            help="The model that a new library is for: without --encoder it is made with that model's own autoencoder, which "
            "needs no other download.",
        ),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Pictures embedded and committed together.")] = 64,
    ray: Annotated[
        int, typer.Option("--ray", min=0, metavar="N", help="Read and embed with N actors of a Ray cluster.")
    ] = 0,
) -> None:
    """Add pictures, making the library if there is none. Pictures that are there already are skipped.

    Killed at any moment, the library holds all that was committed; the same command again does the rest.

    \b
    steerclear library add art/ --library protected --owner Acme --tag mascot
    steerclear library add "scans/**/*.png" list.csv shard-0001.tar -l protected --policy withhold
    steerclear library add art/ -l two-eyes --encoder descriptor --encoder clip
    steerclear library add art/ -l for-mine --model path/to/stable-diffusion
    steerclear library add art/ -l protected --ray 8
    """
    with one_line_errors():
        encoders = _encoders(library, encoder or (), model)
        if not any(policy == p for p in POLICIES):
            raise InputError(f"policy {policy!r} is none of {', '.join(POLICIES)}")
        chosen: Policy = "withhold" if policy == "withhold" else "steer"
        known = _captions(captions)
        opened = Library.open_or_create(library, encoders)
        with progress_bar() as on_progress:
            report = add(
                opened,
                paths,
                encoders,
                owner=owner,
                licence=licence,
                note=note,
                tags=tag or (),
                policy=chosen,
                captions=known,
                batch=batch,
                ray_actors=ray,
                on_progress=on_progress,
            )
        from steerclear.filters.library import calibrate_command, needs_calibration

        total, uncalibrated = len(opened), needs_calibration(opened)
    for path, reason in report.failed:
        typer.echo(f"failed: {path}: {reason}", err=True)
    skipped, failed = len(report.skipped_duplicates), len(report.failed)
    typer.echo(
        f"{len(report.added)} added, {skipped} already there, {failed} failed; the library holds {total}"
    )
    if uncalibrated:
        typer.echo(
            "no guard opens this library yet, since its filters have no thresholds; next, run: "
            f"{calibrate_command(library)}",
            err=True,
        )
    raise typer.Exit(1 if report.failed else 0)


@app.command("list")
def list_command(
    library: Where = DEFAULT,
    owner: Annotated[str | None, typer.Option(help="Only this owner's.")] = None,
    tag: Annotated[str | None, typer.Option(help="Only with this tag.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the items.

    \b
    steerclear library list -l protected
    steerclear library list -l protected --owner Acme --json
    """
    with one_line_errors():
        items = Library.open(library).items()
    items = [i for i in items if owner in (None, i.owner) and (tag is None or tag in i.tags)]
    if as_json:
        print_json([i.to_dict() for i in items])
        return
    rows = [(i.id, i.policy, i.owner, ", ".join(i.tags), i.caption, i.source) for i in items]
    print_table(("id", "policy", "owner", "tags", "caption", "source"), rows)


@app.command()
def show(
    item_id: Annotated[str, typer.Argument(metavar="ID")], library: Where = DEFAULT, as_json: AsJson = False
) -> None:
    """Show all that is known about one item.

    \b
    steerclear library show fox -l protected
    """
    with one_line_errors():
        item = Library.open(library).get(item_id).to_dict()
    if as_json:
        print_json(item)
        return
    for name, value in item.items():
        typer.echo(f"{name:8} {', '.join(value) if isinstance(value, list) else value}")


@app.command()
def remove(ids: Annotated[list[str], typer.Argument(metavar="ID...")], library: Where = DEFAULT) -> None:
    """Remove items, all or (when an id is unknown) none. `restore` brings them back.

    \b
    steerclear library remove fox owl -l protected
    """
    with one_line_errors():
        opened = Library.open(library)
        before = opened.version
        count = opened.remove(ids)
    typer.echo(f"{count} removed; undo with: steerclear library restore {before} --library {library}")


@app.command()
def search(
    image: Annotated[Path, typer.Argument(help="The picture to look for.")],
    library: Where = DEFAULT,
    count: Annotated[int, typer.Option("-k", min=1, help="How many matches.")] = 5,
    encoder: Annotated[
        str | None, typer.Option(help="Compare with this encoder; default: the first.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Find the protected pictures most like IMAGE, by cosine.

    \b
    steerclear library search suspicious.png -l protected -k 3
    """
    with one_line_errors():
        matches = _search(Library.open(library), image, count, encoder)
    if as_json:
        print_json([{"id": i, "score": s} for i, s in matches])
    else:
        print_table(("score", "id"), [(f"{s:.4f}", i) for i, s in matches])


@app.command()
def stats(library: Where = DEFAULT, as_json: AsJson = False) -> None:
    """Count items by owner and policy; show encoders, version and size.

    \b
    steerclear library stats -l protected --json
    """
    from collections import Counter

    with one_line_errors():
        opened = Library.open(library)
        items, version = opened.items(), opened.version
    folder = Path(library)
    figures: dict[str, Any] = {
        "items": len(items),
        "policies": dict(Counter(i.policy for i in items)),
        "owners": dict(Counter(i.owner for i in items)),
        "encoders": {s.name: {"dim": s.dim, "fingerprint": s.fingerprint} for s in opened.encoders},
        "version": version,
        "bytes": sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) if folder.is_dir() else None,
    }
    if as_json:
        print_json(figures)
        return
    for name, value in figures.items():
        typer.echo(f"{name:9} {json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else value}")


@app.command()
def verify(
    library: Where = DEFAULT,
    sources: Annotated[bool, typer.Option("--sources", help="Also read every source file again.")] = False,
) -> None:
    """Read the whole library and list what is wrong with it; exit code 1 if anything is.

    \b
    steerclear library verify -l protected --sources
    """
    from steerclear.library.verify import verify as look_over

    with one_line_errors():
        opened = Library.open(library)
        problems = look_over(opened, sources=sources)
        count = len(opened)
    for problem in problems:
        typer.echo(f"{problem.id}: {problem.reason}", err=True)
    typer.echo(f"{count} items, {len(problems)} problems")
    raise typer.Exit(1 if problems else 0)


@app.command()
def index(library: Where = DEFAULT) -> None:
    """Build the approximate index that very large libraries are searched by; build it anew after adding many.

    \b
    steerclear library index -l protected
    """
    with one_line_errors():
        opened = Library.open(library)
        names = opened.build_index()
        count = len(opened)
    typer.echo(f"{count} items indexed for {' and '.join(names)}")


@app.command()
def export(file: Annotated[Path, typer.Argument(help="A .parquet file.")], library: Where = DEFAULT) -> None:
    """Write everything, vectors and thumbnails included, to a Parquet file that `add` can read again.

    \b
    steerclear library export protected.parquet -l protected
    """
    with one_line_errors():
        rows = Library.open(library).export()
        import pyarrow.parquet as pq

        try:
            pq.write_table(rows, file)
        except OSError as error:
            raise InputError(f"cannot write {str(file)!r}: {error.strerror or error}") from error
    typer.echo(f"{len(rows)} items written to {file}")


@app.command()
def log(library: Where = DEFAULT) -> None:
    """List the versions of the library, oldest first.

    \b
    steerclear library log -l protected
    """
    with one_line_errors():
        versions = Library.open(library).log()
    rows = [(str(v.version), f"{v.committed:%Y-%m-%d %H:%M:%S} UTC", str(v.items)) for v in versions]
    print_table(("version", "committed", "items"), rows)


@app.command()
def restore(version: int, library: Where = DEFAULT) -> None:
    """Bring the items of an earlier version back, as a new version.

    \b
    steerclear library restore 7 -l protected
    """
    with one_line_errors():
        opened = Library.open(library)
        opened.restore(version)
        count = len(opened)
    typer.echo(f"version {version} restored; the library holds {count}")


def _encoders(library: str, names: Sequence[str], model: str | None = None) -> list[Encoder]:
    """The encoders that are named, else those of the library, else the one that a new library gets.

    The shipped model has its descriptor; nothing is known of any other but that its own autoencoder sees what it draws.
    """
    if not names:
        try:
            names = [spec.name for spec in Library.open(library).encoders]
        except LibraryError:  # there is none yet; where it is only damaged, opening it again will say so
            known = model is None or Path(model).resolve() == MODEL_FOLDER.resolve()
            names = [DEFAULT_ENCODER if known else f"vae:{model}"]
        _check_importable(names, library)
    return [load_encoder(encoder_name(name)) for name in names]


def _check_importable(names: Sequence[str], library: str) -> None:
    """Refuses a `module:object` that a library's metadata names and the user does not."""
    for name in names:
        if ":" in name:
            check_registered("encoder", name.partition(":")[0], f"the library at {library!r}")


def _search(library: Library, image: Path, count: int, name: str | None) -> list[tuple[str, float]]:
    import torch

    from steerclear.encoders.base import check_embedding
    from steerclear.library.images import read_image, square_tensor

    spec = library.spec(name) if name else library.encoders[0]
    if not name:
        _check_importable([spec.name], library.uri)
    encoder = load_encoder(spec.name)
    library.check_encoder(encoder)
    with torch.no_grad():
        query = encoder(square_tensor(read_image(image), encoder.size)[None])
    return library.index(spec.name).matches(check_embedding(query, encoder, 1), count)[0]


def _captions(path: Path | None) -> dict[str, str]:
    if path is None:
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read the captions {str(path)!r}: {error}") from error
    if not isinstance(found, dict):
        raise InputError(f"the captions {str(path)!r} must be one JSON object, path → caption")
    return {str(k): str(v) for k, v in found.items()}
