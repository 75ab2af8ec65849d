"""Errors of the HTTP side, in the form that clients of OpenAI show to people."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse

from nanoocr.errors import NanoOCRError, PictureError

SHOWN = 400  # characters at each end of a message that are kept: it may repeat what a client has sent


class ApiError(NanoOCRError):
    """A request that cannot be answered: the status, a sentence, and fields for the client's code."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str,
        param: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.param, self.headers = status, code, param, headers or {}

    def fields(self) -> tuple[int, str, str, str | None, dict[str, str]]:
        """The error as plain values, which can be sent to another process."""
        return self.status, str(self), self.code, self.param, self.headers


def from_fields(fields: tuple[int, str, str, str | None, dict[str, str]]) -> ApiError:
    """The error that was turned into these `fields`."""
    status, message, code, param, headers = fields
    return ApiError(status, message, code=code, param=param, headers=headers)


def bad(message: str, param: str | None = None, code: str = "invalid_value") -> ApiError:
    """An error 400: the client's request is wrong."""
    return ApiError(400, message, code=code, param=param)


def stopped() -> ApiError:
    """An error 503: the server takes nothing more."""
    return ApiError(503, "the server is stopping", code="stopping", headers={"Retry-After": "5"})


def unknown_model(asked: str, model: str) -> ApiError:
    """An error 404: the server has one `model`, and it is not the one that was asked for."""
    message = f"there is no model {asked!r} here, only {model!r}"
    return ApiError(404, message, code="model_not_found", param="model")


def error_body(status: int, message: str, code: str, param: str | None = None) -> dict[str, Any]:
    """OpenAI's object of an error."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    kind = {401: "authentication_error", 429: "rate_limit_error"}.get(status, kind)
    told = {"message": message, "type": kind, "param": param, "code": code}
    return {"error": {name: text and shortened(in_utf8(text)) for name, text in told.items()}}


def in_utf8(text: str) -> str:
    """A text without halves of UTF-16 pairs, which JSON and some encodings can hold and UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode()


def shortened(text: str) -> str:
    """A text, of which the middle is left out where it is long. What to do stands at the end of a message."""
    return text if len(text) <= 2 * SHOWN else f"{text[:SHOWN]} ... {text[-SHOWN:]}"


def error_response(error: ApiError) -> JSONResponse:
    """The HTTP response for an error. It tells clients not to retry what would fail again."""
    headers = dict(error.headers)
    if error.status in (500, 501, 504):
        headers["x-should-retry"] = "false"
    body = error_body(error.status, str(error), error.code, error.param)
    return JSONResponse(body, error.status, headers)


def as_api_error(error: Exception) -> ApiError:
    """Turn whatever error ended a reading into an ApiError with an HTTP status."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, PictureError):
        return bad(str(error), "file", f"picture_{error.kind}")
    if isinstance(error, NanoOCRError):
        return bad(str(error))
    return ApiError(500, "the server has failed on this request; its log says why", code="internal_error")
