"""Label Studio's failures as ours. Messages hold no token: the SDK's own would show headers."""

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from label_studio_sdk.core.api_error import ApiError

from backend.domain.errors import BadInput, Misconfigured, PremaskError, ServiceUnavailable

#: The server, or what stands before it, is away or busy.
_AWAY = frozenset({408, 425, 429, 502, 503, 504})
_EXCERPT = 300
#: Code of what is raised where Label Studio knows no such thing.
NOT_THERE = "labeling_tool_not_found"


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Run calls to Label Studio; `doing` completes "Label Studio, …:" in the message of what is raised.

    No answer, 429 and 502 to 504 → `ServiceUnavailable`; other 5xx too, with the code `labeling_tool_error`, as they
    may come back for ever; 401 and 403 → `Misconfigured`; other refusals → `BadInput` with the server's words (code
    `labeling_tool_refused`; of a 404 `NOT_THERE`).
    """
    try:
        yield
    except httpx.TransportError as error:
        raise ServiceUnavailable(f"Label Studio, {doing}: no answer ({type(error).__name__})") from error
    except ApiError as error:
        raise _as_ours(error, doing) from error


def _as_ours(error: ApiError, doing: str) -> PremaskError:
    status = error.status_code
    if status is None or status in _AWAY:
        return ServiceUnavailable(f"Label Studio, {doing}: answered {status}")
    if status >= 500:
        return ServiceUnavailable(f"Label Studio, {doing}: answered {status}", code="labeling_tool_error")
    if status in (401, 403):
        return Misconfigured(f"Label Studio, {doing}: refused the key ({status}); check PREMASK__LABEL_STUDIO__API_KEY")
    code = NOT_THERE if status == 404 else "labeling_tool_refused"
    return BadInput(f"Label Studio, {doing}: {status} {str(error.body)[:_EXCERPT]}", code=code)
