"""What a server keeps in its database: keys, incidents, and the chain of records that shows any change."""

from __future__ import annotations

from steerclear.errors import ConfigError

try:
    import sqlalchemy as _sqlalchemy  # noqa: F401
except ImportError as error:
    raise ConfigError("keys and incidents need SQLAlchemy; run: pip install 'steerclear[serve]'") from error

from steerclear.records.incidents import Decided, Incident, Incidents, LoggedIncident
from steerclear.records.keys import SCOPES, Key, Keys
from steerclear.records.sealing import Keep, read_key
from steerclear.records.store import Records

__all__ = [
    "SCOPES",
    "Decided",
    "Incident",
    "Incidents",
    "Keep",
    "Key",
    "Keys",
    "LoggedIncident",
    "Records",
    "read_key",
]
