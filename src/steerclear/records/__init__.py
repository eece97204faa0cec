"""What a server keeps in its database: keys, incidents, and the chain of records that shows any change."""

from __future__ import annotations

from steerclear.errors import ConfigError

try:
    import sqlalchemy as _sqlalchemy  # noqa: F401
except ImportError as error:
    raise ConfigError("keys and incidents need SQLAlchemy; run: pip install 'steerclear[serve]'") from error

from steerclear.records.floods import Flood
from steerclear.records.incidents import Decided, Incident, Incidents, LoggedIncident
from steerclear.records.keys import SCOPES, Key, Keys
from steerclear.records.negatives import Negative, Negatives
from steerclear.records.sealing import Keep, read_key
from steerclear.records.store import Records
from steerclear.records.verifying import Verdict

__all__ = [
    "SCOPES",
    "Decided",
    "Flood",
    "Incident",
    "Incidents",
    "Keep",
    "Key",
    "Keys",
    "LoggedIncident",
    "Negative",
    "Negatives",
    "Records",
    "Verdict",
    "read_key",
]
