"""Label Studio's failures as ours. Messages hold no token: the SDK's own would show headers."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

import httpx
from label_studio_sdk.core.api_error import ApiError

from backend.domain.errors import BadInput, Misconfigured, PremaskError, ServiceUnavailable
from backend.ports.labeling import KEY_REFUSED, LABELING_BUSY, LABELING_ERROR

#: The server, or what stands before it, is away or busy.
_AWAY = frozenset({408, 425, 502, 503, 504})
_EXCERPT = 300
#: Code of what is raised where Label Studio knows no such thing.
NOT_THERE = "labeling_tool_not_found"


@contextmanager
def translated(doing: str, not_there: str = NOT_THERE) -> Iterator[None]:
    """Run calls to Label Studio; `doing` completes "Label Studio, …:" in the message of what is raised.

    No answer, 502 to 504 and what is no JSON → `ServiceUnavailable`; 429 too, with the code `LABELING_BUSY`, and other
    5xx with `LABELING_ERROR`, as they may come back for ever; 401 and 403 → `Misconfigured`; other refusals →
    `BadInput` with the server's words (code `labeling_tool_refused`; of a 404 `not_there`).
    """
    try:
        yield
    except httpx.TransportError as error:
        raise ServiceUnavailable(f"Label Studio, {doing}: no answer ({type(error).__name__})") from error
    except json.JSONDecodeError as error:
        # The SDK reads the answer to a refreshed token as it comes, also that of a proxy that has no server behind it.
        raise ServiceUnavailable(f"Label Studio, {doing}: its answer is no JSON") from error
    except ApiError as error:
        raise _as_ours(error, doing, not_there) from error


def _as_ours(error: ApiError, doing: str, not_there: str) -> PremaskError:
    status = error.status_code
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        after = (error.headers or {}).get("retry-after", "")
        wait_s = float(after) if after.isascii() and after.isdigit() else None
        return ServiceUnavailable(f"Label Studio, {doing}: answered 429", code=LABELING_BUSY, retry_after_s=wait_s)
    if status is None or status in _AWAY:
        return ServiceUnavailable(f"Label Studio, {doing}: answered {status}")
    if status >= 500:
        return ServiceUnavailable(f"Label Studio, {doing}: answered {status}", code=LABELING_ERROR)
    if status in (401, 403):
        said = f"Label Studio, {doing}: refused the key ({status}); check PREMASK__LABEL_STUDIO__API_KEY"
        return Misconfigured(said, code=KEY_REFUSED)
    code = not_there if status == 404 else "labeling_tool_refused"
    return BadInput(f"Label Studio, {doing}: {status} {str(error.body)[:_EXCERPT]}", code=code)
