"""From a worker's result to what a client may see: recorded, encoded, and with nothing of the library."""

from __future__ import annotations

import asyncio
import base64
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from steerclear.errors import RecordsError
from steerclear.serve.access import Caller
from steerclear.serve.errors import ApiError, log, unavailable
from steerclear.serve.jobs import Made
from steerclear.serve.pictures import encode
from steerclear.serve.schemas import PictureRequest
from steerclear.types import Outcome, Report

if TYPE_CHECKING:
    from PIL import Image

    from steerclear.serve.server import Server

PROTECTED = "protected_picture"  # the category of what resembles a picture of the library


@dataclass(frozen=True)
class Delivered:
    """One picture of an answer.

    Attributes:
        index: its place in the request, from 0.
        report_id: names its report; an incident's id where it was not clear.
        report: what happened to it.
        b64: the file in base64; None where it is withheld.
        size: "WxH"; None where it is withheld.
    """

    index: int
    report_id: str
    report: Report
    b64: str | None
    size: str | None

    def described(self, caller: Caller) -> dict[str, Any]:
        """What the caller's scope lets it know: never the protected picture or its name without "review"."""
        report = self.report
        public = {
            "index": self.index,
            "outcome": str(report.outcome),
            "report_id": self.report_id,
            "seed": report.seed,
            "overhead": report.overhead,
        }
        if not caller.may("review"):
            return public
        return public | {
            "matched": report.matched,
            "before": report.similarity_before,
            "after": report.similarity_after,
            "attempts": [
                {"strategy": a.strategy, "passed": a.passed, "nfe": a.nfe, "stopped": a.stopped}
                for a in report.attempts
            ],
            "reason": report.reason,
            "seconds": report.seconds,
            "library_version": report.library_version,
        }


async def delivered(
    server: Server,
    caller: Caller,
    *,
    request_id: str,
    asked: PictureRequest,
    settings: dict[str, Any],
    produced: Made,
) -> list[Delivered]:
    """The pictures of a request, encoded, once every one that was not clear is on record.

    Raises:
        ApiError: where an incident cannot be recorded: then nothing is handed out.
    """
    server.metrics.count(produced.reports)
    return await asyncio.to_thread(
        _encoded_and_recorded, server, caller, request_id, asked, settings, produced
    )


def _encoded_and_recorded(
    server: Server,
    caller: Caller,
    request_id: str,
    asked: PictureRequest,
    settings: dict[str, Any],
    produced: Made,
) -> list[Delivered]:
    pictures = []
    for index, (image, report) in enumerate(zip(produced.images, produced.reports, strict=True)):
        b64 = None if image is None else encode(image, asked.output_format, asked.output_compression)
        kind = "rep" if report.outcome is Outcome.CLEAR else "inc"
        report_id = f"{kind}-{secrets.token_hex(12)}"
        if report.outcome is not Outcome.CLEAR:
            _record(
                server,
                report,
                settings=settings,
                key=caller.id,
                request=request_id,
                handed_out=None if b64 is None else base64.b64decode(b64),
                withheld=produced.flagged.get(index),
                id=report_id,
            )
        pictures.append(Delivered(index, report_id=report_id, report=report, b64=b64, size=_size(image)))
    return pictures


def record_abandoned(
    server: Server, produced: Made, *, settings: dict[str, Any], key: str, request_id: str
) -> None:
    """Write an incident for each picture that was flagged before its request was cancelled.

    Else a client could try as often as it likes what comes near a protected picture, and go away in time.

    Args:
        server: with its records.
        made: what nobody waits for; nothing of it is handed out.
        settings: what an incident keeps of the request.
        key: id of the caller's key.
        request_id: of the request.

    Raises:
        ApiError: where an incident cannot be recorded.
    """
    for index, report in enumerate(produced.reports):
        if any(d.flagged for d in (*report.detections, *report.observed)):
            cancelled = replace(report, outcome=Outcome.WITHHELD, reason="cancelled")
            _record(
                server,
                cancelled,
                settings=settings,
                key=key,
                request=request_id,
                withheld=produced.flagged.get(index),
            )


def _record(server: Server, report: Report, **known: Any) -> None:
    """Write the incident of a report, see `Incident.of`; it is on disk when this returns.

    Raises:
        ApiError: where it cannot be written.
    """
    if server.records is None:
        return
    from steerclear.records import Incident

    try:
        server.records.incidents.append(Incident.of(report, **known))
    except RecordsError as error:
        log.error("an incident could not be recorded: %s", error)
        raise unavailable(
            "the server cannot record this request now, so nothing is handed out; try again later",
            code="storage",
        ) from error


def _size(image: Image.Image | None) -> str | None:
    return None if image is None else f"{image.width}x{image.height}"


def images_response(
    pictures: Sequence[Delivered], asked: PictureRequest, caller: Caller, request_id: str
) -> dict[str, Any]:
    """The answer to a request that is not streamed: what is delivered, and what is withheld by name.

    Raises:
        ApiError: 400 where all pictures are withheld.
    """
    handed_out = [picture for picture in pictures if picture.b64 is not None]
    if not handed_out:
        raise blocked(pictures, caller)
    return {
        "created": int(time.time()),
        "background": "opaque",
        "output_format": asked.output_format,
        "size": handed_out[0].size,
        "data": [
            {"b64_json": picture.b64, "steerclear": picture.described(caller)} for picture in handed_out
        ],
        "steerclear": {
            "request_id": request_id,
            "withheld": [picture.described(caller) for picture in pictures if picture.b64 is None],
        },
    }


def blocked(pictures: Sequence[Delivered], caller: Caller) -> ApiError:
    """400 where nothing of a request is handed out, as OpenAI's clients know it."""
    flagged = [d for p in pictures for d in p.report.detections if d.flagged]
    categories = list(dict.fromkeys(PROTECTED if d.matched else d.filter for d in flagged))
    # where no picture was looked at, the prompt decided
    looked = any(p.report.nfe > 0 for p in pictures)
    number = f"all {len(pictures)} pictures are" if len(pictures) > 1 else "the picture is"
    names = ", ".join(picture.report_id for picture in pictures)
    return ApiError(
        400,
        f"{number} withheld: nothing was made that passes the filters; the report is {names}. Try another "
        "prompt or seed",
        type="image_generation_user_error",
        code="moderation_blocked",
        details={
            "moderation_details": {
                "moderation_stage": "output" if looked else "input",
                "categories": categories,
            },
            "steerclear": {"withheld": [picture.described(caller) for picture in pictures]},
        },
    )
