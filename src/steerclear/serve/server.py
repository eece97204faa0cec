"""What all routes share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from steerclear.serve.access import Access
from steerclear.serve.dispatch import Dispatcher
from steerclear.serve.metrics import Metrics
from steerclear.serve.settings import ServeSettings

if TYPE_CHECKING:
    from steerclear.library import Library
    from steerclear.records import Records


@dataclass
class Server:
    """What a route finds at `request.app.state.server`.

    Attributes:
        settings: the options.
        access: the keys.
        dispatcher: the queue and the workers.
        metrics: the figures.
        library: the protected pictures, for what needs no model.
        records: incidents and keys; None on a server without.
    """

    settings: ServeSettings
    access: Access
    dispatcher: Dispatcher
    metrics: Metrics
    library: Library
    records: Records | None
