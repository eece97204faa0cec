"""`/incidents`: the queue of what was not clear, each beside the protected picture that it resembles."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response

from steerclear.errors import LibraryError, RecordsError
from steerclear.serve.errors import ApiError
from steerclear.serve.page.html import PageRoute, page, to
from steerclear.serve.page.visit import Visitor, form_of_page, visitor

if TYPE_CHECKING:
    from steerclear.library import Item
    from steerclear.records import LoggedIncident, Records
    from steerclear.serve.server import Server

Result = TypeVar("Result")

router = APIRouter(prefix="/incidents", route_class=PageRoute)

ON_A_PAGE = 50
TRIES = 5  # to take the next one, where others take it first
LAST = 2**62  # above any seq
State = Literal["open", "claimed", "decided"]

Reviewing = Annotated[Visitor, Depends(visitor("review"))]


@router.get("")
async def listed(
    request: Request,
    who: Reviewing,
    state: Annotated[State | Literal[""], Query()] = "open",
    item: str = "",
    after: Annotated[int, Query(ge=0, le=LAST)] = 0,
) -> Response:
    """The queue, oldest first."""

    def read(records: Records) -> dict[str, Any]:
        rows = records.incidents.list(after=after, state=state or None, item=item or None, limit=ON_A_PAGE)
        return {"rows": rows, "floods": records.floods()}

    shown = await _of_records(request, read)
    rows = shown["rows"]
    following = rows[-1].seq if len(rows) == ON_A_PAGE else None
    values = {**shown, "state": state, "item": item, "following": following}
    return page(request, "incidents", values)


@router.post("/claim")
async def claim(request: Request, who: Reviewing) -> Response:
    """Go to the oldest incident that nobody has decided and nobody else is looking at."""
    row = await _of_records(request, lambda records: records.incidents.claim(who.caller.id))
    return _to_incident(row, who)


@router.get("/{incident_id}")
async def incident(incident_id: str, request: Request, who: Reviewing) -> Response:
    """One incident, side by side with the protected picture."""
    row = await _of_records(request, lambda records: _incident(records, incident_id))
    server: Server = request.app.state.server
    item = await asyncio.to_thread(_protected, server, row.incident.matched)
    mine = row.claimed_by == who.caller.id
    values = {"row": row, "report": row.incident.report, "item": item, "mine": mine}
    return page(request, "incident", values)


@router.get("/{incident_id}/picture")
async def picture(incident_id: str, request: Request, who: Reviewing) -> Response:
    """A small PNG of what was flagged, where the server keeps such."""

    def read(records: Records) -> bytes | None:
        _incident(records, incident_id)
        return records.incidents.thumbnail(incident_id)

    png = await _of_records(request, read)
    if png is None:
        raise ApiError(404, f"no picture of {incident_id} is kept", code="not_found")
    return Response(png, media_type="image/png", headers={"cache-control": "no-store"})


@router.post("/{incident_id}/take")
async def take(incident_id: str, request: Request, who: Reviewing) -> Response:
    """Begin to review an incident that was chosen from the list."""

    def taken(records: Records) -> LoggedIncident:
        _incident(records, incident_id)
        return _refused_as_conflict(lambda: records.incidents.take(incident_id, who.caller.id))

    return _to_incident(await _of_records(request, taken), who)


@router.post("/{incident_id}/{direction}")
async def move(
    incident_id: str, direction: Literal["next", "previous"], request: Request, who: Reviewing
) -> Response:
    """Leave an incident undecided, and go to the one behind or before it that nobody else has."""

    def moved(records: Records) -> LoggedIncident | None:
        here = _incident(records, incident_id).seq
        return _neighbour(records, here=here, direction=direction, reviewer=who.caller.id)

    row = await _of_records(request, moved)
    if row is None and direction == "previous":
        who.session.said = "this is the first one"
        return to(f"/incidents/{incident_id}")
    return _to_incident(row, who)


@router.post("/{incident_id}/decide/{decision}")
async def decide(
    incident_id: str, decision: Literal["copy", "no_copy"], request: Request, who: Reviewing
) -> Response:
    """Confirm or overrule, and go to the next one."""
    form = await form_of_page(request)
    note = form.get("note")
    text = note.strip() if isinstance(note, str) else ""
    revise = form.get("revise") == "yes"

    def decided(records: Records) -> LoggedIncident | None:
        _incident(records, incident_id)
        incidents, reviewer = records.incidents, who.caller.id
        _refused_as_conflict(
            lambda: incidents.decide(
                incident_id, decision=decision, reviewer=reviewer, note=text, revise=revise
            )
        )
        return incidents.get(incident_id) if revise else incidents.claim(reviewer)

    row = await _of_records(request, decided)
    word = "confirmed as a copy" if decision == "copy" else "overruled: no copy"
    who.session.said = f"{incident_id} is {word}"
    return _to_incident(row, who)


@router.post("/{incident_id}/negative")
async def keep_negative(incident_id: str, request: Request, who: Reviewing) -> Response:
    """Put the kept picture of an overruled incident into the negative bank."""

    def kept(records: Records) -> str:
        _incident(records, incident_id)
        return _refused_as_conflict(lambda: records.negatives.add(incident_id))

    who.session.said = f"in the negative bank as {await _of_records(request, kept)}"
    return to(f"/incidents/{incident_id}")


async def _of_records(request: Request, ask: Callable[[Records], Result]) -> Result:
    """An answer of the database, in a thread.

    Raises:
        ApiError: 404 on a server without records.
    """
    server: Server = request.app.state.server
    if server.records is None:
        raise ApiError(
            404, "this server keeps no incidents; start it with --database records.db", code="no_records"
        )
    return await asyncio.to_thread(ask, server.records)


def _incident(records: Records, incident_id: str) -> LoggedIncident:
    """The incident of an id; 404 for an unknown one."""
    try:
        return records.incidents.get(incident_id)
    except RecordsError as error:
        if not str(error).startswith("there is no incident"):
            raise
        raise ApiError(404, f"there is no incident {incident_id[:64]!r}", code="not_found") from error


def _refused_as_conflict(ask: Callable[[], Result]) -> Result:
    """What the database refuses, since somebody else was first, is 409."""
    try:
        return ask()
    except RecordsError as error:
        raise ApiError(409, str(error), code="conflict") from error


def _neighbour(records: Records, here: int, direction: str, reviewer: str) -> LoggedIncident | None:
    """The nearest incident that is not somebody else's: open ones forwards, all of them backwards."""
    incidents = records.incidents
    for _ in range(TRIES):
        if direction == "next":
            rows = incidents.list(after=here, state="open", limit=1)
        else:
            rows = [row for row in incidents.list(before=here, limit=ON_A_PAGE) if row.claimed_by is None][:1]
        if not rows:
            return None
        try:
            return incidents.take(rows[0].id, reviewer)
        except RecordsError:  # somebody else was faster
            continue
    return None


def _protected(server: Server, item_id: str | None) -> Item | None:
    """The protected picture of an incident, if the library still has it."""
    try:
        return None if item_id is None else server.library.get(item_id)
    except LibraryError:
        return None


def _to_incident(row: LoggedIncident | None, who: Visitor) -> Response:
    if row is None:
        who.session.said = f"{who.session.said}; nothing is left to review".removeprefix("; ")
        return to("/incidents")
    return to(f"/incidents/{row.id}")
