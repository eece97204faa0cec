"""`steerclear audit …`: what a server has recorded of requests that were not clear."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from steerclear.cli.options import DatabaseOption, JsonOption
from steerclear.cli.terminal import PROBLEMS, echo, one_line_errors, print_json, print_table
from steerclear.errors import InputError

app = typer.Typer(
    name="audit",
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Records of a server: verify, review, export, purge.\n\n"
    "Exit codes: 0 done; 1 the records were changed; 2 not done, the error says why.",
)

KeyFileOption = Annotated[
    Path | None,
    typer.Option(
        "--key-file",
        metavar="FILE",
        help="Holds the key of the pictures; by default what STEERCLEAR_RECORDS_KEY_FILE names, or "
        "STEERCLEAR_RECORDS_KEY.",
    ),
]


class Judgement(StrEnum):
    """What a reviewer says of an incident."""

    copy = "copy"
    no_copy = "no_copy"


class Which(StrEnum):
    """Where an incident stands."""

    open = "open"
    claimed = "claimed"
    decided = "decided"


@app.command()
def verify(
    database: DatabaseOption,
    head: Annotated[
        str | None,
        typer.Option(
            metavar="HASH",
            help="What an earlier run printed as the head. Without it nobody can tell whether the end was "
            "cut off, or all of it written anew.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Read all records, and say whether any was changed, removed, added or moved.

    Prints the head, the hash of the last record: keep it outside the database, and give it next time.

    \b
    steerclear audit verify --database records.db
    steerclear audit verify --database records.db --head 5f0c…
    """
    with one_line_errors():
        from steerclear.records import Records

        with Records.open(database) as records:
            verdict = records.verify(head)
        if as_json:
            print_json(asdict(verdict))
        else:
            for problem in verdict.problems:
                echo(problem)
            state = "whole" if not verdict.problems else "NOT WHOLE"
            echo(f"{verdict.records} records, {state}; head {verdict.head}")
            if head is None:
                echo("no --head was given: rows cut off at the end would not be seen", err=True)
    if verdict.problems:
        raise typer.Exit(PROBLEMS)


@app.command()
def export(
    file: Annotated[Path, typer.Argument(help="A .jsonl or .parquet file.")], database: DatabaseOption
) -> None:
    """Write all records to a file, with the texts that were not purged.

    \b
    steerclear audit export records.parquet --database records.db
    """
    with one_line_errors():
        from steerclear.records import Records

        with Records.open(database) as records:
            count = records.export(file)
    echo(f"{count} records written to {file}")


@app.command()
def purge(
    database: DatabaseOption,
    texts_days: Annotated[
        float | None,
        typer.Option(
            "--texts-older-than",
            metavar="DAYS",
            min=0.0,
            help="Take out prompts and other texts of this age as well.",
        ),
    ] = None,
    incident: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Take out the texts and pictures of this incident alone."),
    ] = None,
    why: Annotated[str, typer.Option(metavar="TEXT", help="With --incident: why, for the chain.")] = "",
) -> None:
    """Take out thumbnails whose period is over; the chain stays whole, and says what was taken out.

    \b
    steerclear audit purge --database records.db
    steerclear audit purge --database records.db --texts-older-than 90
    """
    with one_line_errors("stopped: what was taken out until now is named in the records"):
        from steerclear.records import Records

        with Records.open(database) as records:
            if incident is not None:
                if texts_days is not None or not why:
                    raise InputError("--incident needs --why, and no --texts-older-than")
                counts = {"contents": records.purge_incident(incident, why)}
            else:
                counts = records.purge(None if texts_days is None else timedelta(days=texts_days))
    echo(", ".join(f"{count} {name} purged" for name, count in counts.items()) or "nothing to purge")


@app.command()
def upgrade(database: DatabaseOption) -> None:
    """Bring a database up to date; one that is empty gets its tables. Back it up before.

    \b
    steerclear audit upgrade --database postgresql+psycopg://steerclear@db/steerclear
    """
    with one_line_errors():
        from steerclear.records import Records

        before, after = Records.upgrade(database)
    echo(f"revision {after} already" if before == after else f"revision {before or 'none'} → {after}")


@app.command("list")
def list_incidents(
    database: DatabaseOption,
    state: Annotated[Which | None, typer.Option(help="Only those that stand there.")] = None,
    after: Annotated[int, typer.Option(metavar="N", help="Go on after this number.", min=0)] = 0,
    limit: Annotated[int, typer.Option(metavar="N", help="The most that are listed.", min=1)] = 100,
    as_json: JsonOption = False,
) -> None:
    """List incidents, oldest first."""
    with one_line_errors():
        from steerclear.records import Records

        with Records.open(database) as records:
            incidents = records.incidents.list(
                after=after, state=None if state is None else state.value, limit=limit
            )
        if as_json:
            print_json([incident.to_dict() for incident in incidents])
            return
        rows = [
            [
                str(logged.seq),
                logged.id,
                f"{logged.written:%Y-%m-%d %H:%M}",
                logged.incident.outcome,
                logged.incident.matched or "-",
                logged.decided.decision if logged.decided else logged.state,
            ]
            for logged in incidents
        ]
        print_table(["number", "id", "when", "outcome", "resembles", "state"], rows)


@app.command()
def decide(
    id: Annotated[str, typer.Argument(metavar="ID")],
    decision: Annotated[Judgement, typer.Argument(help="copy confirms, no_copy overrules.")],
    database: DatabaseOption,
    reviewer: Annotated[str, typer.Option(metavar="NAME", help="Who decides.")],
    note: Annotated[str, typer.Option(metavar="TEXT", help="Why; it stays in the records for good.")] = "",
    revise: Annotated[bool, typer.Option("--revise", help="Replace an earlier decision.")] = False,
) -> None:
    """Confirm or overrule an incident.

    \b
    steerclear audit decide inc-5f0c… no_copy --reviewer anna --database records.db
    """
    with one_line_errors():
        from steerclear.records import Records

        with Records.open(database) as records:
            records.incidents.decide(id, decision=decision.value, reviewer=reviewer, note=note, revise=revise)
    echo(f"{id}: {decision.value}")


@app.command()
def negatives(
    database: DatabaseOption,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Write the pictures into a new folder, for `calibrate --negatives`."
        ),
    ] = None,
    add: Annotated[
        str | None, typer.Option(metavar="ID", help="Add the picture of this overruled incident.")
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="With --add: the picture, where no thumbnail was kept, or larger."),
    ] = None,
    remove: Annotated[str | None, typer.Option(metavar="ID", help="Take this picture out.")] = None,
    key_file: KeyFileOption = None,
) -> None:
    """List the pictures of the negative bank: flagged, and overruled by a reviewer.

    \b
    steerclear audit negatives --add inc-5f0c… --database records.db
    steerclear audit negatives --out negatives --database records.db
    """
    with one_line_errors():
        from steerclear.records import Keep, Records, read_key

        if picture is not None and add is None:
            raise InputError("--picture says which picture to add; give --add with it")
        with Records.open(database, Keep(key=read_key(key_file))) as records:
            if add is not None:
                from steerclear.library.images import read_image

                given = None if picture is None else read_image(picture, name=str(picture))
                echo(f"{records.negatives.add(add, given)} added")
            if remove is not None:
                records.negatives.remove(remove)
                echo(f"{remove} taken out")
            if out is not None:
                echo(f"{len(records.negatives.export(out))} pictures written to {out}")
            if add is None and remove is None and out is None:
                rows = [
                    [row.id, row.incident, row.item or "-", f"{row.size[0]} × {row.size[1]}"]
                    for row in records.negatives.list()
                ]
                print_table(["id", "incident", "was taken for", "size"], rows)


@app.command()
def floods(
    database: DatabaseOption,
    hours: Annotated[
        float, typer.Option(metavar="N", min=0.01, help="Length of the time that is looked at.")
    ] = 24.0,
    days: Annotated[float, typer.Option(metavar="N", min=0.01, help="Length of the time before it.")] = 30.0,
    as_json: JsonOption = False,
) -> None:
    """Name protected items that suddenly match far more than their share.

    An item is named if 10 or more incidents resemble it, its share of all incidents is 5 times as high as
    before or more, and Fisher's exact test gives a chance below 0.001 for all items together.

    \b
    steerclear audit floods --database records.db
    """
    with one_line_errors():
        from steerclear.records import Records

        with Records.open(database) as records:
            named = records.floods(window=timedelta(hours=hours), history=timedelta(days=days))
        if as_json:
            print_json([asdict(flood) for flood in named])
            return
        for flood in named:
            echo(
                f"{flood.item}: {flood.incidents} of {flood.of} incidents, {flood.expected:.1f} expected "
                f"({flood.before} of {flood.of_before} before), p = {flood.p:.2g}"
            )
        if not named:
            echo("no item matches far more than its share")
