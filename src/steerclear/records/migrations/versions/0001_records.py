"""The chain of records, what it commits to, the reviewers' queue, and keys."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

Number = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Makes the tables, and has the database itself refuse changes of the chain."""
    op.create_table(
        "records",
        sa.Column("seq", Number, primary_key=True, autoincrement=False),
        sa.Column("id", sa.String(64), nullable=False, unique=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("subject", sa.String(64)),
        sa.Column("item", sa.Text),
        sa.Column("written", sa.String(32), nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("previous", sa.String(64), nullable=False, unique=True),
        sa.Column("hash", sa.String(64), nullable=False, unique=True),
    )
    op.create_index("records_by_subject", "records", ["subject"])
    op.create_index("records_by_item", "records", ["item", "written"])
    op.create_index("records_by_kind", "records", ["kind", "written"])
    op.create_table(
        "contents",
        sa.Column("record", sa.String(64), primary_key=True),
        sa.Column("name", sa.String(16), primary_key=True),
        sa.Column("salt", sa.LargeBinary, nullable=False),
        sa.Column("value", sa.LargeBinary, nullable=False),
        sa.Column("expires", sa.String(32)),
    )
    op.create_index("contents_by_expiry", "contents", ["expires"])
    op.create_table(
        "queue",
        sa.Column("incident", sa.String(64), sa.ForeignKey("records.id"), primary_key=True),
        sa.Column("seq", Number, nullable=False),
        sa.Column("claimed_by", sa.Text),
        sa.Column("claimed_until", sa.String(32)),
        sa.Column("decision", sa.String(16)),
    )
    op.create_index("queue_open", "queue", ["decision", "seq"])
    op.create_table(
        "keys",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("scopes", sa.Text, nullable=False),
        sa.Column("rate", sa.Integer),
        sa.Column("concurrency", sa.Integer),
        sa.Column("created", sa.String(32), nullable=False),
        sa.Column("expires", sa.String(32)),
        sa.Column("revoked", sa.String(32)),
    )
    # against mistakes alone: who owns the tables can drop a trigger; the chain shows what was changed
    if op.get_bind().dialect.name == "sqlite":
        for change in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER records_no_{change.lower()} BEFORE {change} ON records "
                "BEGIN SELECT RAISE(ABORT, 'records are append-only'); END"
            )
    else:
        op.execute(
            "CREATE FUNCTION records_append_only() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'records are append-only'; END $$"
        )
        op.execute(
            "CREATE TRIGGER records_append_only BEFORE UPDATE OR DELETE ON records "
            "FOR EACH ROW EXECUTE FUNCTION records_append_only()"
        )


def downgrade() -> None:
    """Refused: there is nothing before it, and an audit is not deleted by a command."""
    raise NotImplementedError("there is no revision before this one")
