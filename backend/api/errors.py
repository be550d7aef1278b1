"""The one rendering of errors: problem+json (RFC 9457), from the code and status an error carries itself."""

import logging
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import OperationalError
from starlette.exceptions import HTTPException

from backend.api.schemas.common import Problem
from backend.domain.errors import PremaskError

log = logging.getLogger(__name__)

#: For the OpenAPI document.
PROBLEM_RESPONSES: dict[int | str, dict[str, Any]] = {
    "default": {"model": Problem, "description": "What went wrong (application/problem+json)."}
}


class Unauthorized(PremaskError):
    code = "unauthorized"
    http_status = 401


def problem(status: int, code: str, detail: str) -> JSONResponse:
    body = Problem(title=HTTPStatus(status).phrase, status=status, detail=detail, code=code)
    headers = {"WWW-Authenticate": "Bearer"} if status == HTTPStatus.UNAUTHORIZED else None
    return JSONResponse(body.model_dump(), status, headers, media_type="application/problem+json")


def install(app: FastAPI) -> None:
    """Render deliberate errors, invalid requests and unknown addresses alike; a bug stays a 500, traced in the log."""

    @app.exception_handler(PremaskError)
    def deliberate(_: Request, error: PremaskError) -> JSONResponse:
        return problem(error.http_status, error.code, str(error))

    @app.exception_handler(RequestValidationError)
    def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        said = "; ".join(f"{'.'.join(str(part) for part in e['loc'])}: {e['msg']}" for e in error.errors())
        return problem(422, "invalid_request", said)

    @app.exception_handler(OperationalError)
    def database(_: Request, error: OperationalError) -> JSONResponse:
        log.error("the database doesn't answer: %s", error)
        return problem(503, "service_unavailable", "the database doesn't answer")

    @app.exception_handler(HTTPException)
    def http(_: Request, error: HTTPException) -> JSONResponse:
        return problem(error.status_code, HTTPStatus(error.status_code).name.lower(), str(error.detail))
