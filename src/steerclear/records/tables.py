"""The tables, as the newest migration leaves them."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

metadata = MetaData()

# SQLite numbers rows in INTEGER alone
Number = BigInteger().with_variant(Integer, "sqlite")

# the chain: rows are added and never changed; see `chain`
records = Table(
    "records",
    metadata,
    Column("seq", Number, primary_key=True, autoincrement=False),
    Column("id", String(64), nullable=False, unique=True),
    Column("kind", String(16), nullable=False),
    Column("subject", String(64)),
    Column("item", Text),
    Column("written", String(32), nullable=False),
    Column("body", Text, nullable=False),
    Column("previous", String(64), nullable=False, unique=True),
    Column("hash", String(64), nullable=False, unique=True),
    Index("records_by_subject", "subject"),
    Index("records_by_item", "item", "written"),
    Index("records_by_kind", "kind", "written"),
)

# what may be purged: the chain holds a commitment to it, see `sealing`
contents = Table(
    "contents",
    metadata,
    Column("record", String(64), primary_key=True),
    Column("name", String(16), primary_key=True),
    Column("salt", LargeBinary, nullable=False),
    Column("value", LargeBinary, nullable=False),
    Column("expires", String(32)),
    Index("contents_by_expiry", "expires"),
)

# where an incident stands in the reviewers' queue; the decision itself is a record
queue = Table(
    "queue",
    metadata,
    Column("incident", String(64), ForeignKey("records.id"), primary_key=True),
    Column("seq", Number, nullable=False),
    Column("claimed_by", Text),
    Column("claimed_until", String(32)),
    Column("decision", String(16)),
    Index("queue_open", "decision", "seq"),
)

keys = Table(
    "keys",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("name", Text, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("scopes", Text, nullable=False),
    Column("rate", Integer),
    Column("concurrency", Integer),
    Column("created", String(32), nullable=False),
    Column("expires", String(32)),
    Column("revoked", String(32)),
)
