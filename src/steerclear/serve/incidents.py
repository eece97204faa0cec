"""`/v1/incidents`: what was not clear, for reviewers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from steerclear.errors import RecordsError
from steerclear.serve.access import Reviewing
from steerclear.serve.errors import ApiError
from steerclear.serve.schemas import Decision

if TYPE_CHECKING:
    from steerclear.records.incidents import Incidents
    from steerclear.serve.server import Server

Result = TypeVar("Result")

router = APIRouter(prefix="/v1/incidents", tags=["incidents"])


async def _of_records(request: Request, ask: Callable[[Incidents], Result]) -> Result:
    """An answer of the database, in a thread.

    Raises:
        ApiError: 404 on a server without records, and for an unknown incident.
    """
    server: Server = request.app.state.server
    if server.records is None:
        raise ApiError(
            404, "this server keeps no incidents; start it with --database records.db", code="no_records"
        )
    try:
        return await asyncio.to_thread(ask, server.records.incidents)
    except RecordsError as error:
        if not str(error).startswith("there is no incident"):
            raise
        message = f"{error}; GET /v1/incidents lists all"
        raise ApiError(404, message, code="not_found", param="incident_id") from error


@router.get("")
async def list_incidents(
    request: Request,
    caller: Reviewing,
    after: Annotated[int, Query(ge=0, le=2**62, description="seq of the last one of the page before.")] = 0,
    state: Annotated[Literal["open", "claimed", "decided"] | None, Query()] = None,
    item: Annotated[str | None, Query(description="Only those of a protected picture.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> dict[str, Any]:
    """Incidents, oldest first."""
    rows = await _of_records(
        request, lambda incidents: incidents.list(after=after, state=state, item=item, limit=limit)
    )
    return {"data": [row.to_dict() for row in rows], "next": rows[-1].seq if len(rows) == limit else None}


@router.post("/claim")
async def claim(request: Request, caller: Reviewing) -> dict[str, Any]:
    """The oldest incident that nobody has decided and nobody else is looking at; null where none is left."""
    row = await _of_records(request, lambda incidents: incidents.claim(caller.id))
    return {"incident": None if row is None else row.to_dict()}


@router.get("/{incident_id}")
async def get_incident(incident_id: str, request: Request, caller: Reviewing) -> dict[str, Any]:
    """One incident."""
    row = await _of_records(request, lambda incidents: incidents.get(incident_id))
    return row.to_dict()


@router.get("/{incident_id}/thumbnail", response_class=Response)
async def thumbnail(incident_id: str, request: Request, caller: Reviewing) -> Response:
    """A small PNG of what was withheld, where the server keeps such."""
    png = await _of_records(request, lambda incidents: incidents.thumbnail(incident_id))
    if png is None:
        raise ApiError(404, f"no picture of {incident_id} is kept", code="not_found", param="incident_id")
    return Response(png, media_type="image/png", headers={"cache-control": "no-store"})


@router.post("/{incident_id}/decision")
async def decide(incident_id: str, asked: Decision, request: Request, caller: Reviewing) -> dict[str, Any]:
    """Confirm that an incident was a copy, or overrule it."""

    def decided(incidents: Incidents) -> Any:
        incidents.get(incident_id)  # an unknown one is 404, and what the database refuses then is 409
        try:
            return incidents.decide(
                incident_id, decision=asked.decision, reviewer=caller.id, note=asked.note, revise=asked.revise
            )
        except RecordsError as error:
            raise ApiError(409, str(error), code="conflict", param="incident_id") from error

    return dict((await _of_records(request, decided)).to_dict())


@router.post("/{incident_id}/release", status_code=204)
async def release(incident_id: str, request: Request, caller: Reviewing) -> None:
    """Give an incident back that this reviewer has claimed."""
    await _of_records(request, lambda incidents: incidents.release(incident_id, caller.id))
