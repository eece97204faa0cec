"""Who may use a server: keys that are shown once, kept hashed, and refused as soon as they are revoked."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from steerclear.errors import InputError, RecordsError
from steerclear.records import chain
from steerclear.records.database import Database, now, stamp, time_of
from steerclear.records.tables import keys

SCOPES = ("generate", "review", "admin")
PREFIX = "sck"
SECRET_BYTES = 32
NOBODY = hashlib.sha256(b"").hexdigest()  # what an unknown id is compared with


@dataclass(frozen=True, slots=True)
class Key:
    """A key as the database knows it, without its secret.

    Attributes:
        id: its public part.
        name: whose it is.
        scopes: of "generate", "review" and "admin"; none of them includes another.
        rate: requests a minute that it may make; None for no limit.
        concurrency: requests that it may have running at once; None for no limit.
        created: when it was made, in UTC.
        expires: from when on it is refused; None for never.
        revoked: since when it is refused; None where it is not.
    """

    id: str
    name: str
    scopes: frozenset[str]
    rate: int | None = None
    concurrency: int | None = None
    created: datetime | None = None
    expires: datetime | None = None
    revoked: datetime | None = None

    def to_dict(self) -> dict[str, Any]:
        """Returns a plain dictionary that JSON can write."""
        times = {
            name: None if (time := getattr(self, name)) is None else time.isoformat()
            for name in ("created", "expires", "revoked")
        }
        limits = {"rate": self.rate, "concurrency": self.concurrency}
        return {"id": self.id, "name": self.name, "scopes": sorted(self.scopes)} | limits | times


class Keys:
    """The keys of one database.

    The secret is 256 random bits. Nobody can guess it, or search for it from its hash, so one SHA-256 is
    enough; slow hashes are for passwords, which people choose. The comparison takes constant time.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(
        self,
        name: str,
        scopes: Collection[str] = ("generate",),
        *,
        rate: int | None = None,
        concurrency: int | None = None,
        expires: datetime | None = None,
    ) -> tuple[Key, str]:
        """Makes a key.

        Args:
            name: whose it is.
            scopes: what it may do.
            rate: requests a minute, above 0.
            concurrency: requests at once, above 0.
            expires: with a time zone; from then on it is refused.

        Returns:
            The key, and its secret, which cannot be shown again.

        Raises:
            InputError: for an empty name, an unknown scope, or a limit below 1.
        """
        if not name.strip():
            raise InputError("a key needs a name that says whose it is")
        if isinstance(scopes, str) or not scopes or not set(scopes) <= set(SCOPES):
            raise InputError(f"the scopes are {scopes!r}; give one or more of {', '.join(SCOPES)}")
        for limit, value in (("rate", rate), ("concurrency", concurrency)):
            if value is not None and value < 1:
                raise InputError(f"the {limit} is {value}; it must be 1 or more, or not given")
        if expires is not None and expires.tzinfo is None:
            raise InputError(
                f"the expiry {expires} has no time zone; give one such as 2030-01-31T00:00+00:00"
            )
        key = Key(
            secrets.token_hex(6),
            name=name,
            scopes=frozenset(scopes),
            rate=rate,
            concurrency=concurrency,
            created=now(),
            expires=expires,
        )
        secret = f"{PREFIX}_{key.id}_{secrets.token_urlsafe(SECRET_BYTES)}"
        row = {
            "id": key.id,
            "name": name,
            "digest": _digest(secret),
            "scopes": " ".join(sorted(scopes)),
            "rate": rate,
            "concurrency": concurrency,
            "created": stamp(now()),
            "expires": None if expires is None else stamp(expires),
        }
        with self._database.writing() as connection:
            connection.execute(keys.insert().values(**row))
            chain.append(connection, "key", {"added": row}, subject=key.id)
        return key, secret

    def verify(self, secret: str) -> Key | None:
        """The key of a secret, as the database has it at this moment.

        Args:
            secret: what a caller has sent; anything.

        Returns:
            None for an unknown, expired or revoked one.
        """
        parts = secret.split("_", 2)
        if len(parts) != 3 or parts[0] != PREFIX or not parts[1].isalnum() or not secret.isascii():
            return None
        with self._database.reading() as connection:
            row = connection.execute(sa.select(keys).where(keys.c.id == parts[1])).first()
        same = hmac.compare_digest(_digest(secret), NOBODY if row is None else row.digest)
        if not same or row is None:
            return None
        key = _key(row)
        if key.revoked is not None or (key.expires is not None and key.expires <= now()):
            return None
        return key

    def list(self) -> Sequence[Key]:
        """All keys, oldest first, the revoked ones among them."""
        with self._database.reading() as connection:
            return [_key(row) for row in connection.execute(sa.select(keys).order_by(keys.c.created))]

    def revoke(self, id: str) -> Key:
        """Refuses a key from now on, on every server of this database.

        Args:
            id: its public part.

        Raises:
            RecordsError: for an unknown id.
        """
        with self._database.writing() as connection:
            row = connection.execute(sa.select(keys).where(keys.c.id == id)).first()
            if row is None:
                raise RecordsError(f"there is no key {id!r}; see: steerclear keys list")
            if row.revoked is None:
                connection.execute(keys.update().where(keys.c.id == id).values(revoked=stamp(now())))
                chain.append(connection, "key", {"revoked": id}, subject=id)
            row = connection.execute(sa.select(keys).where(keys.c.id == id)).one()
        return _key(row)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _key(row: Any) -> Key:
    times = [None if time is None else time_of(time) for time in (row.created, row.expires, row.revoked)]
    return Key(row.id, row.name, frozenset(row.scopes.split()), row.rate, row.concurrency, *times)
