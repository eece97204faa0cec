"""`steerclear library add`: put pictures into a library, which is created where there is none."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from steerclear.cli.inputs import read_names
from steerclear.cli.library.recognition import print_plain, print_recognition
from steerclear.cli.opening import open_encoders
from steerclear.cli.options import DEFAULT_LIBRARY, DownloadOption, LibraryOption, TrustOption
from steerclear.cli.terminal import OK, PROBLEMS, echo, one_line_errors, progress
from steerclear.embedded import is_embedded
from steerclear.errors import InputError, LibraryError
from steerclear.library import ingest
from steerclear.library.files import MAX_BYTES, Reach, read_text
from steerclear.library.schema import POLICIES, Policy
from steerclear.library.sources import in_words
from steerclear.library.store import Library

if TYPE_CHECKING:
    from steerclear.encoders import Encoder


def add(
    paths: Annotated[
        list[str],
        typer.Argument(
            help="Files, folders (also of datasets), globs, .txt/.csv/.parquet lists, .tar shards."
        ),
    ],
    library: LibraryOption = DEFAULT_LIBRARY,
    owner: Annotated[str, typer.Option(help="Who holds the rights.")] = "",
    licence: Annotated[str, typer.Option(help="Licence or contract.")] = "",
    note: Annotated[str, typer.Option(help="Anything a reviewer should know.")] = "",
    tag: Annotated[list[str] | None, typer.Option(help="May be given several times.")] = None,
    policy: Annotated[
        str, typer.Option(help="steer (nudge copies away) or withhold (hand out nothing).")
    ] = "steer",
    captions: Annotated[
        Path | None,
        typer.Option(help="JSON file with one object: path, file name or stem → caption."),
    ] = None,
    encoder: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Encoder of a new library; may be given several times: descriptor (default) or clip, which "
            "ship inside, transformers:NAME_OR_FOLDER, sscd:FILE, vae:MODEL, or module:object of your own.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER_OR_ID",
            help="The model that a new library is for: without --encoder, that model's own autoencoder is "
            "the encoder.",
        ),
    ] = None,
    trust: TrustOption = False,
    allow_download: DownloadOption = False,
    allow_remote: Annotated[
        bool, typer.Option("--allow-remote", help="Also read addresses (with ://) that a list names.")
    ] = False,
    allow_outside: Annotated[
        bool,
        typer.Option(
            "--allow-outside", help="Also read files outside of the folder of the list that names them."
        ),
    ] = False,
    max_bytes: Annotated[
        int, typer.Option("--max-bytes", min=1, metavar="N", help="Leave out files of more than N bytes.")
    ] = MAX_BYTES,
    batch: Annotated[int, typer.Option(min=1, help="Pictures embedded and committed together.")] = 64,
    ray: Annotated[
        int, typer.Option("--ray", min=0, metavar="N", help="Read and embed with N actors of a Ray cluster.")
    ] = 0,
) -> None:
    """Add pictures, and create the library if there is none. Pictures that are there already are skipped.

    What cannot be read is listed as failed, and so are blank pictures, by which no copy could be told; the
    others go in. Of an animation it is the first frame that is not blank. Pictures as plain as stripes are
    named: only nearly unaltered copies of them are sure to be found.

    Where no picture can be added, no library is created.

    If it is killed, the library holds everything that was committed; the same command again does the rest.

    \b
    steerclear library add art/ --library protected --owner Acme --tag mascot
    steerclear library add "scans/**/*.png" list.csv shard-0001.tar -l protected --policy withhold
    steerclear library add art/ -l two-encoders --encoder descriptor --encoder clip
    steerclear library add art/ -l for-my-model --model path/to/stable-diffusion
    steerclear library add art/ -l protected --ray 8
    """
    from steerclear.filters.library import calibrate_command, needs_calibration

    with one_line_errors("stopped; what was committed is safe, the same command again does the rest"):
        chosen_policy = _policy(policy)
        captions_by_path = _read_captions(captions)
        encoders = _encoders(library, encoder or (), model, trust=trust, allow_download=allow_download)
        opened = Library.open_or_plan(library, encoders)
        with progress("adding") as advance:
            report = ingest.add(
                opened,
                paths,
                encoders,
                owner=owner,
                licence=licence,
                note=note,
                tags=tag or (),
                policy=chosen_policy,
                captions=captions_by_path,
                batch=batch,
                reach=Reach(remote=allow_remote, outside=allow_outside, max_bytes=max_bytes),
                ray_actors=ray,
                on_progress=lambda state: advance(state.done, state.total),
            )
        total = len(opened)
        thresholds_missing = total > 0 and needs_calibration(opened)
    for path, reason in report.failed:
        echo(f"failed: {path}: {reason}", err=True)
    skipped, failed = len(report.skipped_duplicates), len(report.failed)
    holds = "no library was created" if opened.planned else f"the library holds {total}"
    echo(f"{len(report.added)} added, {skipped} already there, {failed} failed; {holds}")
    if report.skipped:
        echo(f"skipped, no pictures: {in_words(report.skipped)}")
    if report.added:
        print_plain(opened, report.added)
    if total:
        print_recognition(opened)
    if thresholds_missing:
        consent = "".join(f" --encoder {name}" for name in encoder or () if ":" in name)
        echo(
            "next: this library has no thresholds for its encoders yet, and no guard takes it without; run: "
            f"{calibrate_command(library)}{consent}",
            err=True,
        )
    raise typer.Exit(PROBLEMS if report.failed else OK)


def _policy(text: str) -> Policy:
    for policy in POLICIES:
        if text == policy:
            return policy
    raise InputError(f"policy {text!r} is none of {', '.join(POLICIES)}")


def _encoders(
    library: str, names: Sequence[str], model: str | None, *, trust: bool, allow_download: bool
) -> list[Encoder]:
    """The encoders that the user names, else those of the library, else the one that a new library gets.

    The shipped model's is its descriptor; for any other model it is that model's autoencoder, which sees what
    the model draws.
    """
    from steerclear.encoders import DEFAULT, encoder_name, load_encoder

    if not names:
        try:
            existing = Library.open(library)
        except LibraryError:  # there is none yet; if it is only damaged, opening it again will say so
            names = [DEFAULT if model is None or is_embedded(model) else f"vae:{model}"]
        else:
            return open_encoders(existing, Path(model) if model else None)
    return [
        load_encoder(encoder_name(name), trust=trust, allow_download=allow_download)
        for name in read_names("encoder", names)
    ]


def _read_captions(path: Path | None) -> dict[str, str]:
    if path is None:
        return {}
    try:
        captions = json.loads(read_text(path, "captions"))
    except InputError:
        raise
    except (ValueError, RecursionError) as error:
        raise InputError(f"cannot read the captions {str(path)!r}: {error}") from error
    if not isinstance(captions, dict):
        raise InputError(f"the captions {str(path)!r} must be one JSON object, path → caption")
    return {str(key): str(caption) for key, caption in captions.items()}
