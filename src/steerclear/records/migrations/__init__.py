"""Bringing a database up to date: Alembic's revisions, which ship inside the package."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect
from sqlalchemy.engine import Connection

from steerclear.errors import RecordsError
from steerclear.records.database import Database

COMMAND = "steerclear audit upgrade --database"


def check(database: Database) -> None:
    """Raises RecordsError, with the command to run, unless the database is up to date."""
    with database.reading() as connection:
        present = _revision(connection)
    newest = _newest()
    if present == newest:
        return
    if present is None:
        raise RecordsError(
            f"the database at {database.name!r} holds no records yet; run: {COMMAND} {database.name}"
        )
    if present not in {script.revision for script in _scripts().walk_revisions()}:
        raise RecordsError(
            f"the database at {database.name!r} has revision {present!r}, which a newer steerclear made; "
            "upgrade steerclear"
        )
    raise RecordsError(
        f"the database at {database.name!r} has revision {present!r} and needs {newest!r}; back it up, then "
        f"run: {COMMAND} {database.name}"
    )


def is_empty(database: Database) -> bool:
    """Returns whether a database has no tables at all."""
    with database.reading() as connection:
        return not inspect(connection).get_table_names()


def upgrade(database: Database) -> tuple[str | None, str]:
    """Runs the missing revisions in one transaction, and returns the revision before and the one now."""
    config = _config()
    with database.writing() as connection:  # whoever comes second finds it done
        before = _revision(connection)
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    return before, _newest()


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _newest() -> str:
    return str(_scripts().get_current_head())


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())


def _config() -> Config:
    config = Config()
    # a percent sign in the path is no interpolation
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
