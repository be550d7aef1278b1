"""What endpoints are given: the container, a transaction, a page's bounds; and who may ask."""

import hmac
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Query, Request
from pydantic import SecretStr
from sqlalchemy.orm import Session

from backend.api.errors import Unauthorized
from backend.bootstrap import Container
from backend.domain.errors import BadInput, InvalidEvent


def get_container(request: Request) -> Container:
    container = request.app.state.container
    assert isinstance(container, Container)
    return container


TheContainer = Annotated[Container, Depends(get_container)]


def get_session(container: TheContainer) -> Iterator[Session]:
    """A transaction that commits before the answer goes out."""
    with container.transaction() as session:
        yield session


# Scope "function": committed (or refused) before the answer is sent, so that a 200 is never a lie.
TheSession = Annotated[Session, Depends(get_session, scope="function")]


def bears(request: Request, secret: SecretStr) -> bool:
    """Whether the request carries the secret, compared in constant time."""
    given = request.headers.get("authorization", "")
    return hmac.compare_digest(given.encode(), f"Bearer {secret.get_secret_value()}".encode())


async def raw_body(request: Request, max_bytes: int, what: str) -> bytes:
    """The body as it came: what it is, its sender's content type doesn't reliably say (SNS: text/plain). Raises
    `InvalidEvent` once it has more than `max_bytes`; `what` it is said to be."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            raise InvalidEvent(f"{what} has {max_bytes} bytes at most")
    return bytes(body)


def require_api_key(request: Request, container: TheContainer) -> None:
    """Raises `Unauthorized` where a key is configured and the request lacks it."""
    key = container.settings.api.api_key
    if key is not None and not bears(request, key):
        raise Unauthorized("this needs the API key, as `Authorization: Bearer …`")


@dataclass(frozen=True, slots=True)
class Bounds:
    limit: int
    before_id: int | None


def page_bounds(
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    cursor: Annotated[str | None, Query(description="`next_cursor` of the page before")] = None,
) -> Bounds:
    if cursor is not None and not (cursor.isascii() and cursor.isdigit() and len(cursor) < 19):
        raise BadInput("that cursor is none of ours", code="bad_cursor")
    return Bounds(limit, None if cursor is None else int(cursor))


PageBounds = Annotated[Bounds, Depends(page_bounds)]


def next_cursor(ids: list[int], limit: int) -> str | None:
    """The cursor for what follows a page of rows with these ids; None if the page wasn't full."""
    return str(ids[-1]) if len(ids) == limit else None
