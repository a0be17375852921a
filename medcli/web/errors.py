"""Whatever goes wrong, in OpenAI's shape: a status, a message, and the path of the field it is about."""

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from medcli.core.errors import MedError, UnknownNameError, UsageError, nearest
from medcli.core.serving import Busy, Closing
from medcli.web.schemas import NAMES

CLOSING_RETRY = 10  # seconds until another server may have taken the place of one that closes
_IN_OURS = {400: "the body cannot be read as JSON", 404: "there is nothing at this path; see /openapi.json"}
_TYPES = {401: "authentication_error", 429: "rate_limit_error"}


class ApiError(MedError):
    """An error with the HTTP status it is answered by; `param` is the path of the field it is about."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.param = param
        self.code = code or ("invalid_value" if param else None)
        self.headers = dict(headers or {})

    @property
    def body(self) -> dict[str, Any]:
        """The error as JSON."""
        kind = _TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    @property
    def response(self) -> JSONResponse:
        """The error as an answer."""
        return JSONResponse(self.body, self.status, self.headers)


def api_error(error: Exception) -> ApiError:
    """The status and the words for any error; those of a defect tell nothing of the request."""
    match error:
        case ApiError():
            return error
        case Busy():
            return ApiError(429, _words(error), code="busy", headers={"Retry-After": str(error.retry_after)})
        case Closing():
            return ApiError(503, "the server is closing", code="closing", headers={"Retry-After": str(CLOSING_RETRY)})
        case UnknownNameError():
            return ApiError(404, _words(error), param="model", code="model_not_found")
        case UsageError():
            return ApiError(400, _words(error))
        case MedError():
            return ApiError(500, _words(error))
        case HTTPException():
            words = _IN_OURS.get(error.status_code, str(error.detail))
            return ApiError(error.status_code, words, headers=error.headers)
    return ApiError(500, "the server has a defect; its own output says more")


def install(app: FastAPI) -> None:
    """Answer every error of `app` in this shape."""

    async def explain(request: Request, error: Exception) -> JSONResponse:
        return api_error(error).response

    async def refuse(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return refusal(error.errors()).response

    app.add_exception_handler(RequestValidationError, refuse)
    app.add_exception_handler(HTTPException, explain)
    app.add_exception_handler(MedError, explain)
    app.add_exception_handler(Exception, explain)


def refusal(problems: Sequence[Mapping[str, Any]]) -> ApiError:
    """A 400 for the deepest of the fields that do not fit, and the first of those that are equally deep."""
    paths = [_path(problem) for problem in problems]
    path = max(paths, key=len)
    here = [problem for problem, its in zip(problems, paths, strict=True) if its == path]
    param = _written(path)
    if here[0]["type"] == "json_invalid":
        place = f"{here[0]['ctx']['error']} at character {here[0]['loc'][-1]}"
        return ApiError(400, f"the body is not JSON: {place}", code="json_invalid")
    if not path:
        return ApiError(400, "the body must be a JSON object, sent as Content-Type: application/json")
    if here[0]["type"] == "extra_forbidden":
        close = nearest(str(path[-1]), NAMES)
        said = f"; did you mean '{close}'?" if close else ""
        return ApiError(400, f"unknown field '{param}'{said}", param=param, code="unknown_parameter")
    if all(map(_asks_for_nothing, here)):
        return ApiError(400, f"{param} is not supported by this server", param=param, code="unsupported_parameter")
    said = ", or ".join(dict.fromkeys(_lower(str(problem["msg"])) for problem in here))
    return ApiError(400, f"{param}: {said}", param=param)


def _asks_for_nothing(problem: Mapping[str, Any]) -> bool:
    """Whether the field may only be null or empty."""
    return problem["type"] == "none_required" or bool(problem.get("ctx", {}).get("max_length") == 0)


def _path(problem: Mapping[str, Any]) -> tuple[str | int, ...]:
    """The names and numbers of a problem's place; pydantic's words for the branches of a union are left out."""
    place = tuple(problem["loc"])[1:]
    if problem["type"] == "json_invalid":
        return ()
    inner = tuple(part for part in place[:-1] if isinstance(part, int) or part in NAMES)
    last = place[-1:]
    if problem["type"] == "extra_forbidden" or (last and (isinstance(last[0], int) or last[0] in NAMES)):
        return (*inner, *last)
    return inner


def _written(path: Sequence[str | int]) -> str:
    """`messages[2].role`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def _words(error: MedError) -> str:
    return f"{error.message} ({error.hint.replace(chr(10), '; ')})" if error.hint else error.message


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
