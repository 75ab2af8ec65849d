"""Errors of the HTTP side, in the form that clients of OpenAI show to people."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse

from nanoocr.errors import NanoOCRError, PictureError


class ApiError(NanoOCRError):
    """A request that cannot be answered: status, sentence, and what the client's code can look at."""

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
        """Plain values, which go to other processes."""
        return self.status, str(self), self.code, self.param, self.headers


def from_fields(fields: tuple[int, str, str, str | None, dict[str, str]]) -> ApiError:
    """The error that gave these `ApiError.fields`."""
    status, message, code, param, headers = fields
    return ApiError(status, message, code=code, param=param, headers=headers)


def bad(message: str, param: str | None = None, code: str = "invalid_value") -> ApiError:
    """A mistake in what was sent."""
    return ApiError(400, message, code=code, param=param)


def error_body(status: int, message: str, code: str, param: str | None = None) -> dict[str, Any]:
    """OpenAI's object of an error."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    kind = {401: "authentication_error", 429: "rate_limit_error"}.get(status, kind)
    told = {"message": message, "type": kind, "param": param, "code": code}
    # JSON can name half a pair of UTF-16, which UTF-8 cannot send back.
    return {"error": {name: text and text.encode("utf-8", "replace").decode() for name, text in told.items()}}


def error_response(error: ApiError) -> JSONResponse:
    """The answer for an error; what would fail again says that it need not be tried again."""
    headers = dict(error.headers)
    if error.status in (500, 501, 504):
        headers["x-should-retry"] = "false"
    body = error_body(error.status, str(error), error.code, error.param)
    return JSONResponse(body, error.status, headers)


def as_api_error(error: Exception) -> ApiError:
    """What a reading ended by, in the terms of HTTP."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, PictureError):
        return bad(str(error), "file", f"picture_{error.kind}")
    if isinstance(error, NanoOCRError):
        return bad(str(error))
    return ApiError(500, "the server has failed on this request; its log says why", code="internal_error")
