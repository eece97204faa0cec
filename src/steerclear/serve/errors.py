"""What goes wrong, as the OpenAI API says it: a status, and a body that names field, value and way out."""

from __future__ import annotations

import errno
import logging
import re
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from steerclear.errors import ImageError, InputError, LibraryError, SteerclearError
from steerclear.serve.jobs import Failure

INVALID = "invalid_request_error"
SERVER = "server_error"
LONGEST_VALUE = 120  # characters of a value that an error repeats

# what a worker's refusal may speak of, and the field that asked for it
FIELD_OF = {
    "InpaintPipeline refuses": "mask",
    "Img2ImgPipeline refuses": "image",
    "num_inference_steps": "num_inference_steps",
    "guidance_scale": "guidance_scale",
    "negative_prompt": "negative_prompt",
    "height": "size",
    "width": "size",
    "strength": "strength",
    "num_images_per_prompt": "n",
}

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)

SURROGATE = re.compile("[\ud800-\udfff]")

log = logging.getLogger("steerclear.serve")


class ApiError(HTTPException):
    """An answer that is an error. The framework lets it pass where it is raised while a body is read.

    Args:
        status: of the HTTP response.
        message: names the field, the value and the way out.
        type: OpenAI's kind of error.
        code: a word for programs.
        param: the field at fault.
        details: further fields of the error's object.
        headers: of the response.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str = INVALID,
        code: str | None = None,
        param: str | None = None,
        details: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, message, dict(headers or {}))
        self.error = {"message": message, "type": type, "param": param, "code": code, **(details or {})}

    @property
    def body(self) -> dict[str, Any]:
        """What the client receives."""
        return {"error": self.error}

    @property
    def response(self) -> JSONResponse:
        """The whole answer."""
        return JSONResponse(self.body, self.status_code, self.headers)


def bad_field(param: str, message: str, *, code: str = "invalid_value") -> ApiError:
    """400 for a field that cannot be used as given."""
    return ApiError(400, message, code=code, param=param)


def too_many(message: str, *, code: str, retry_after: float) -> ApiError:
    """429; the client may come again after so many seconds."""
    seconds = str(max(1, round(retry_after)))
    return ApiError(429, message, type="rate_limit_error", code=code, headers={"Retry-After": seconds})


def unavailable(message: str, *, code: str, retry_after: float = 5) -> ApiError:
    """503; the client may come again after so many seconds."""
    seconds = str(max(1, round(retry_after)))
    return ApiError(503, message, type=SERVER, code=code, headers={"Retry-After": seconds})


def shown(value: Any) -> str:
    """A value as an error repeats it: short."""
    text = repr(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 2]} …"


def check_texts(value: Any, path: str = "") -> None:
    """Refuse half a surrogate pair anywhere in what a client sends.

    JSON can write one ("\\ud800"), but no file, database, tokenizer or answer can hold it.

    Args:
        value: a body, or a form's fields.
        path: of the value in them.

    Raises:
        ApiError: 400 that names the field.
    """
    waiting = [(path, value)]  # not by recursion: a body may be nested deeper than Python calls may be
    while waiting:
        place, part = waiting.pop()
        if isinstance(part, str) and not part.isascii() and SURROGATE.search(part):
            name = place or "the body"
            raise bad_field(
                place or "body",
                f"{name} is {shown(part)}, which is no valid Unicode text: it holds half a surrogate pair; "
                "send the whole character",
            )
        inside: list[tuple[str, Any]] = []
        if isinstance(part, Mapping):
            for key, item in part.items():
                written = str(key).encode("utf-8", "backslashreplace").decode()
                inner = f"{place}.{written}" if place else written
                inside += [(inner, key), (inner, item)]
        elif isinstance(part, list | tuple):
            inside = [(f"{place}.{i}" if place else str(i), item) for i, item in enumerate(part)]
        waiting += reversed(inside)


def of_steerclear(error: SteerclearError, param: str | None = None) -> ApiError:
    """What an error of the library's own is to a client."""
    if isinstance(error, ImageError):
        return ApiError(400, str(error), code="invalid_image", param=param)
    if isinstance(error, InputError):
        return ApiError(400, str(error), code="invalid_value", param=param)
    if isinstance(error, LibraryError):
        return unavailable(str(error), code="library_unavailable")
    return unavailable(str(error), code="unavailable")


def of_failure(failure: Failure) -> ApiError:
    """What a worker's failure is to a client."""
    match failure.kind:
        case "input":
            return ApiError(400, failure.message, code="invalid_value")
        case "image":
            return ApiError(400, failure.message, code="invalid_image")
        case "memory":
            return ApiError(
                400,
                f"{failure.message}; ask for fewer pictures or a smaller size",
                code="out_of_memory",
                param="size",
            )
        case "unavailable":
            return unavailable(failure.message, code="unavailable")
        case _:
            return internal()


def naming_the_field(error: ApiError) -> ApiError:
    """The error with the field that a worker's refusal speaks of, where it names one."""
    if error.status_code == 400 and error.error["param"] is None:
        message = error.error["message"]
        error.error["param"] = next((f for word, f in FIELD_OF.items() if word in message), None)
    return error


def internal() -> ApiError:
    """500 without a word of what failed: that is in the log."""
    message = "the server failed on this request; it is in the log under the id of the header x-request-id"
    return ApiError(500, message, type=SERVER, code="internal")


def install(app: FastAPI) -> None:
    """Give every error of an app OpenAI's shape."""
    app.add_exception_handler(ApiError, _api_error)
    app.add_exception_handler(SteerclearError, _steerclear_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(OSError, _full)
    app.add_exception_handler(Exception, _unknown)


async def _api_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ApiError)
    return error.response


async def _steerclear_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, SteerclearError)
    return of_steerclear(error).response


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    kind = request.headers.get("content-type", "")
    of_the_whole = any(row["loc"] == ("body",) for row in error.errors())
    if of_the_whole and "json" not in kind.partition(";")[0] and await request.body():
        return wrong_content_type(kind, "application/json").response
    return invalid(error.errors()).response


def wrong_content_type(kind: str, wanted: str) -> ApiError:
    """415 for a body of another kind."""
    message = f"the content type is {kind[:100]!r}; send {wanted}"
    return ApiError(415, message, code="unsupported_media_type", param="content-type")


def invalid(errors: Any) -> ApiError:
    """400 for what pydantic refuses; it names the first field at fault."""
    first = next(iter(errors))
    if first["type"] == "json_invalid":
        why = first.get("ctx", {}).get("error", first["msg"])
        return ApiError(400, f"the body is no JSON: {why}; send one JSON object", code="invalid_json")
    path = [str(part) for part in first["loc"] if part not in ("body", "query", "path")]
    param = ".".join(path).encode("utf-8", "backslashreplace").decode() or None
    if first["type"] == "missing":
        return ApiError(400, f"{param or 'the body'} is missing; it is required", code="missing", param=param)
    message = str(first["msg"]).removeprefix("Value error, ")
    text = f"{param or 'the body'} is {shown(first.get('input'))}: {message}"
    return ApiError(400, text, code="invalid_value", param=param)


async def _http(request: Request, error: Exception) -> JSONResponse:
    """What the framework refuses by itself: an unknown path, a method, a broken form."""
    assert isinstance(error, HTTPException)
    path = f"{request.method} {request.url.path}"
    known = {
        404: (f"there is no {path}; see /openapi.json for what there is", "not_found"),
        405: (
            f"{path} is not possible; see /openapi.json for the methods of this path",
            "method_not_allowed",
        ),
    }
    message, code = known.get(error.status_code, (f"the request cannot be read: {error.detail}", "invalid"))
    answer = ApiError(error.status_code, message, code=code, headers=error.headers)
    return answer.response


async def _full(request: Request, error: Exception) -> JSONResponse:
    """A disk that is full, or cannot be written: nothing was kept, so nothing is handed out."""
    if not isinstance(error, OSError) or error.errno not in NO_ROOM:
        log.exception("%s %s", request.method, request.url.path, exc_info=error)
        return internal().response
    log.error("%s %s: %s", request.method, request.url.path, error)
    return unavailable(
        "the server cannot write to its disk now, so nothing was done; try again later", code="storage"
    ).response


async def _unknown(request: Request, error: Exception) -> JSONResponse:
    return internal().response
