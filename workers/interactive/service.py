"""Masks over HTTP, for the API: GET /health and POST /masks (`integrations.masks.wire`).

Two routes with one client of ours: the standard library's server is enough, as for rewards.
"""

import hmac
import json
import logging
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from backend.domain.errors import ObjectGone, PremaskError, ServiceUnavailable
from backend.ports.pipeline import SuggestedMask
from integrations.masks.wire import LOADING, Asked, asked_of, masks_json

Draw = Callable[[Asked], list[SuggestedMask | None]]
log = logging.getLogger(__name__)

_LARGEST_BYTES = 1 << 20
_ROUTES = "there are GET /health and POST /masks"


class Waiting:
    """What draws, once it is there: a model takes seconds to load, and who asks meanwhile is told so, or waits."""

    def __init__(self) -> None:
        self._ready = Event()
        self._draw: Draw | None = None

    def set(self, draw: Draw) -> None:
        self._draw = draw
        self._ready.set()

    @property
    def is_ready(self) -> bool:
        return self._ready.is_set()

    def draw(self, asked: Asked) -> list[SuggestedMask | None]:
        """Raises `ServiceUnavailable` when it isn't there in time, and what drawing raises."""
        self._ready.wait(asked.patience_s)
        if self._draw is None:
            raise ServiceUnavailable(LOADING)
        return self._draw(asked)


def make_server(desk: Waiting, host: str, port: int, *, token: str | None = None) -> ThreadingHTTPServer:
    """A server that is bound and not yet serving; port 0: any that is free."""

    class Handler(BaseHTTPRequestHandler):
        #: Connections are kept: a click needn't wait for a new one.
        protocol_version = "HTTP/1.1"
        timeout = 60.0

        def do_GET(self) -> None:
            if not self._admitted():
                return
            if self.path != "/health":
                self._answer(HTTPStatus.NOT_FOUND, _ROUTES)
            elif desk.is_ready:
                self._answer(HTTPStatus.OK, {"status": "UP"})
            else:
                self._answer(HTTPStatus.SERVICE_UNAVAILABLE, LOADING)

        def do_POST(self) -> None:
            length = self.headers.get("Content-Length", "")
            if not length.isdigit() or int(length) > _LARGEST_BYTES:
                self.close_connection = True
                self._answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"at most {_LARGEST_BYTES} bytes, counted")
                return
            body = self.rfile.read(int(length))
            if not self._admitted():
                return
            if self.path != "/masks":
                self._answer(HTTPStatus.NOT_FOUND, _ROUTES)
                return
            try:
                asked = asked_of(json.loads(body))
            except ValueError as error:
                self._answer(HTTPStatus.BAD_REQUEST, str(error))
                return
            self._draw(asked)

        def _draw(self, asked: Asked) -> None:
            try:
                masks = desk.draw(asked)
            except ObjectGone as error:
                self._answer(HTTPStatus.GONE, str(error))
            except PremaskError as error:
                self._answer(HTTPStatus(error.http_status), str(error))
            except SQLAlchemyError as error:
                log.error("the database doesn't answer: %s", error)
                self._answer(HTTPStatus.SERVICE_UNAVAILABLE, "the database doesn't answer")
            else:
                self._answer(HTTPStatus.OK, {"masks": masks_json(masks)})

        def _admitted(self) -> bool:
            given = self.headers.get("Authorization", "")
            if token is None or hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
                return True
            self._answer(HTTPStatus.UNAUTHORIZED, "the token is not this process's")
            return False

        def _answer(self, status: HTTPStatus, value: Any) -> None:
            body = value.encode() if isinstance(value, str) else json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain" if isinstance(value, str) else "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            try:
                self.wfile.write(body)
            except (BrokenPipeError, ConnectionResetError):
                log.warning("%s came too late: nobody waits for it any more", self.path)

        def log_message(self, format: str, *values: Any) -> None:
            log.debug(format, *values)

    return ThreadingHTTPServer((host, port), Handler)
