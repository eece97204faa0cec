"""The negative bank: pictures that were flagged and that a reviewer has overruled."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa
from PIL import Image

from steerclear.errors import ConfigError, InputError, RecordsError
from steerclear.output import unwritable
from steerclear.records import chain
from steerclear.records.chain import Content
from steerclear.records.database import Database, time_of
from steerclear.records.incidents import THUMBNAIL, Incidents
from steerclear.records.purging import purge_contents
from steerclear.records.sealing import Keep, seal, unseal
from steerclear.records.tables import contents, records

PICTURE = "picture"
INDEX = "negatives.jsonl"


@dataclass(frozen=True, slots=True)
class Negative:
    """A picture that must not be flagged again.

    Attributes:
        id: of its record.
        incident: that was overruled.
        item: the protected item that it was taken for.
        size: width and height in pixels.
        added: when, in UTC.
    """

    id: str
    incident: str
    item: str | None
    size: tuple[int, int]
    added: datetime


class Negatives:
    """The negative bank of one database; its pictures are encrypted, and part of the chain.

    Calibration takes them as clean pictures. No filter exempts them. A filter names the best match alone, and
    a reviewer has judged a picture beside that one item. An exemption would also let out what the picture
    shows of other items, and of those that come into the library later.
    """

    def __init__(self, database: Database, incidents: Incidents, keep: Keep) -> None:
        self._database = database
        self._incidents = incidents
        self._keep = keep

    def add(self, incident: str, picture: Image.Image | None = None) -> str:
        """Adds the picture of an overruled incident.

        Args:
            incident: its id.
            picture: the flagged picture at its full size; by default the thumbnail that was kept.

        Returns:
            The id of the new record.

        Raises:
            InputError: if there is no picture.
            RecordsError: for an incident that is unknown, or that nobody has overruled.
            ConfigError: without a key.
        """
        if self._keep.key is None:
            raise ConfigError("the pictures of the negative bank are encrypted, and no key is set")
        logged = self._incidents.get(incident)
        if logged.decided is None or logged.decided.decision != "no_copy":
            raise RecordsError(f"no reviewer has overruled {incident}; decide no_copy first")
        png = self._incidents.thumbnail(incident) if picture is None else _png(picture)
        if png is None:
            raise InputError(f"no {THUMBNAIL} of {incident} was kept; give the picture itself")
        width, height = Image.open(io.BytesIO(png)).size
        id = chain.new_id("neg")
        held = {PICTURE: Content(seal(self._keep.key, png, f"{PICTURE} of {id}"))}
        with self._database.writing() as connection:
            chain.append(
                connection,
                "negative",
                {"size": [width, height]},
                id=id,
                subject=incident,
                item=logged.incident.matched,
                held=held,
            )
        return id

    def remove(self, id: str) -> None:
        """Takes a picture out of the bank; that it was there stays in the chain.

        Raises:
            RecordsError: for an unknown id.
        """
        with self._database.writing() as connection:
            place = (contents.c.record == id) & (contents.c.name == PICTURE)
            if not purge_contents(connection, "taken out of the negative bank", place):
                raise RecordsError(f"there is no picture {id!r} in the negative bank")
        self._database.forget()

    def export(self, folder: Path) -> list[Path]:
        """Writes all pictures as PNG, and an index, into a folder.

        Args:
            folder: made if there is none.

        Returns:
            The pictures.

        Raises:
            InputError: if it holds anything already, or cannot be written.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if any(folder.iterdir()):
                raise InputError(f"the folder {str(folder)!r} is not empty; name a new one")
            files = []
            with open(folder / INDEX, "w", encoding="utf-8") as index:
                for negative in self.list():
                    file = folder / f"{negative.id}.png"
                    file.write_bytes(self.picture(negative.id))
                    files.append(file)
                    row = {"file": file.name, "incident": negative.incident, "item": negative.item}
                    index.write(json.dumps(row | {"added": negative.added.isoformat()}) + "\n")
        except OSError as error:
            raise unwritable(folder, error) from error
        return files

    def picture(self, id: str) -> bytes:
        """A picture of the bank as PNG.

        Raises:
            RecordsError: for an unknown id, or another key than the one that it was kept with.
            ConfigError: without a key.
        """
        if self._keep.key is None:
            raise ConfigError("the pictures of the negative bank are encrypted, and no key is set")
        with self._database.reading() as connection:
            row = connection.execute(
                sa.select(contents.c.value).where(contents.c.record == id, contents.c.name == PICTURE)
            ).first()
        if row is None:
            raise RecordsError(f"there is no picture {id!r} in the negative bank")
        return unseal(self._keep.key, bytes(row.value), f"{PICTURE} of {id}")

    def list(self) -> Sequence[Negative]:
        """The pictures whose incident is still overruled, oldest first."""
        with self._database.reading() as connection:
            rows = connection.execute(
                sa.select(records)
                .join(contents, contents.c.record == records.c.id)
                .where(records.c.kind == "negative", contents.c.name == PICTURE)
                .order_by(records.c.seq)
            ).all()
            incidents = {row.subject for row in rows}
            # a decision that was revised counts no longer
            decisions = {
                row.subject: json.loads(row.body)["decision"]
                for row in chain.of_kind(connection, "decision")
                if row.subject in incidents
            }
        negatives = []
        for row in rows:
            if decisions.get(row.subject) == "no_copy":
                width, height = json.loads(row.body)["size"]
                negatives.append(
                    Negative(
                        row.id,
                        incident=row.subject,
                        item=row.item,
                        size=(width, height),
                        added=time_of(row.written),
                    )
                )
        return negatives


def _png(picture: Image.Image) -> bytes:
    written = io.BytesIO()
    picture.convert("RGB").save(written, "PNG")
    return written.getvalue()
