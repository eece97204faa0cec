"""What Alembic runs for each command: the revisions, on the connection that the caller has opened."""

from __future__ import annotations

from alembic import context

from steerclear.records.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
