"""`/healthz`, `/readyz`, `/metrics`, `/v1/models`, and ending a request on demand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from steerclear.serve.access import Generating, Looking
from steerclear.serve.errors import ApiError, shown

if TYPE_CHECKING:
    from steerclear.serve.server import Server

router = APIRouter(tags=["health"])


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """Whether the server's own process answers; what restarts a server asks this."""
    return {"status": "ok"}


@router.get("/readyz")
async def readyz(request: Request) -> JSONResponse:
    """Whether some worker can take requests; 503 where none can. A load balancer asks this."""
    server: Server = request.app.state.server
    dispatcher = server.dispatcher
    workers: list[dict[str, Any]] = [
        {
            "worker": worker.number,
            "device": worker.device,
            "state": worker.state,
            "batch_identical": None if worker.abilities is None else worker.abilities.batch_identical,
        }
        for worker in dispatcher.workers
    ]
    status = "draining" if dispatcher.draining else "ready" if dispatcher.ready else "not ready"
    return JSONResponse({"status": status, "workers": workers}, 200 if dispatcher.ready else 503)


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """Figures for Prometheus. They hold no prompt, no picture, no key and no name of the library."""
    server: Server = request.app.state.server
    return Response(server.metrics.exposed(), media_type=server.metrics.content_type)


@router.get("/v1/models", tags=["images"])
async def models(request: Request, caller: Looking) -> dict[str, Any]:
    """The model that is served; a request's field `model` is ignored."""
    return {"object": "list", "data": [{"id": "steerclear", "object": "model", "owned_by": "steerclear"}]}


@router.post("/v1/requests/{request_id}/cancel", tags=["images"])
async def cancel(request_id: str, request: Request, caller: Generating) -> dict[str, Any]:
    """End a request of the same key that waits or runs. Its id is the x-request-id that it was sent with."""
    server: Server = request.app.state.server
    owner = None if caller.may("admin") else caller.id
    if not server.dispatcher.abort(request_id, owner):
        raise ApiError(
            404,
            f"no request {shown(request_id)} of this key waits or runs; it may have ended already. Its id is "
            "the header x-request-id that it was sent with",
            code="not_found",
            param="request_id",
        )
    return {"id": request_id, "cancelled": True}
