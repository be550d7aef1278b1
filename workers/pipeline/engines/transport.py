"""One server that completes chats, over HTTP: time-outs, a second try where one may help, failures that say what to do.

Knows nothing of pictures or prompts. It sends again only what the server surely didn't answer: after a broken
connection, 429 and 5xx. Not after a time-out: the server may still be writing, and a second request doubles its load.
"""

import json
import logging
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from backend.domain.errors import BadInput, Misconfigured, ModelServerFailed, PremaskError, ServiceUnavailable
from backend.profiles import ServerProfile

log = logging.getLogger(__name__)

_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 30.0
_CONNECT_TIMEOUT_S = 10.0
_EXCERPT = 400
#: Answers of a server, or of what stands before it, that is away or has too much to do. Other 5xx are its failures.
_AWAY = frozenset({429, 502, 503, 504})


class _Again(Exception):
    """A failure that may pass. `wait_s`: when the server wants to be asked again, if it said so."""

    def __init__(self, error: PremaskError, wait_s: float | None = None) -> None:
        super().__init__(str(error))
        self.error, self.wait_s = error, wait_s


class ChatServer:
    """Posts to `<base_url>/chat/completions`. Thread safe. `sleep` waits between tries.

    Raises `Misconfigured` if the profile names a variable for the key that is not set.
    """

    def __init__(self, server: ServerProfile, sleep: Callable[[float], None] = time.sleep) -> None:
        self._server, self._sleep = server, sleep
        self._client = httpx.Client(
            headers={"Content-Type": "application/json", **self._authorization()},
            timeout=httpx.Timeout(server.timeout_s, connect=min(_CONNECT_TIMEOUT_S, server.timeout_s)),
            # The engine bounds them; a second bound here would only make requests wait, and their time-outs run.
            limits=httpx.Limits(max_connections=None),
        )

    def _authorization(self) -> dict[str, str]:
        name = self._server.api_key_env
        if name is None:
            return {}
        if not (key := os.environ.get(name)):
            raise Misconfigured(f"{self}: its key should be in the environment variable {name}, which is not set")
        return {"Authorization": f"Bearer {key}"}

    def __str__(self) -> str:
        return f"model {self._server.model} at {self._server.base_url}"

    def post(self, request: dict[str, Any]) -> Any:
        """The parsed JSON of the answer to one chat completion.

        Raises `ServiceUnavailable` when the server stays away or busy after all tries; `ModelServerFailed` when it
        keeps failing at this request or doesn't end it in time; `BadInput` (code `model_server_refused`) when it
        refuses the request; `Misconfigured` when key, address or model name are wrong or JSON is not what came.
        """
        body = json.dumps(request).encode()
        for sent in range(1, self._server.retries + 2):
            try:
                return self._once(body)
            except _Again as again:
                wait_s = min(_FIRST_WAIT_S * 2 ** (sent - 1), _LONGEST_WAIT_S) if again.wait_s is None else again.wait_s
                if sent > self._server.retries or wait_s > _LONGEST_WAIT_S:
                    raise again.error from again.__cause__
                log.warning("%s; asking again in %.1f s", again.error, wait_s)
            self._sleep(wait_s)
        raise AssertionError("the last try returns or raises")

    def _once(self, body: bytes) -> Any:
        try:
            response = self._client.post(f"{self._server.base_url}/chat/completions", content=body)
        except (httpx.ConnectTimeout, httpx.NetworkError, httpx.RemoteProtocolError) as error:
            reason = f"no answer ({type(error).__name__}: {error}); is the server up, and base_url right?"
            raise _Again(ServiceUnavailable(f"{self}: {reason}")) from error
        except httpx.TimeoutException as error:
            raise ModelServerFailed(
                f"{self}: no answer in {self._server.timeout_s:g} s; raise timeout_s, or lower max_in_flight"
            ) from error
        if response.status_code != httpx.codes.OK:
            raise self._failure(response)
        try:
            return response.json()
        except ValueError as error:
            raise Misconfigured(
                f"{self}: what came is no JSON ({response.text[:_EXCERPT]!r}); is base_url that of an OpenAI API?"
            ) from error

    def _failure(self, response: httpx.Response) -> Exception:
        status, server = response.status_code, self._server
        said = f"{self}: answered {status} {response.text[:_EXCERPT]!r}"
        if status in _AWAY:
            return _Again(ServiceUnavailable(f"{said}; it is away or has too much to do"), _retry_after_s(response))
        if status >= 500:
            return _Again(ModelServerFailed(f"{said}; its log says why"), _retry_after_s(response))
        if status in (401, 403):
            variable = "api_key_env, which names none" if server.api_key_env is None else server.api_key_env
            return Misconfigured(f"{said}; check the key ({variable})")
        if status == 404 or status < 400:
            return Misconfigured(f"{said}; check base_url, and that the server knows the model by this name")
        return BadInput(f"{said}; it refuses such a request", code="model_server_refused")


def _retry_after_s(response: httpx.Response) -> float | None:
    """`Retry-After` in either of its forms; None if it isn't there or says nothing."""
    value = response.headers.get("Retry-After", "").strip()
    if value.isdecimal():
        return float(value)
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (at.astimezone(UTC) - datetime.now(UTC)).total_seconds())
