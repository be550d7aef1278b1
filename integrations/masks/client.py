"""The process that draws masks on demand (`premask interactive serve`), as the API asks it."""

import time
from collections.abc import Sequence
from http import HTTPStatus

import httpx

from backend.domain.errors import BadInput, Misconfigured, ObjectGone, ServiceUnavailable
from backend.domain.prompts import ThingPrompt
from backend.ports.pipeline import SuggestedMask
from backend.settings import InteractiveSettings
from integrations.masks.wire import LOADING, Asked, asked_json, masks_of

#: It is near, or not there.
_CONNECT_TIMEOUT_S = 1.0


class RemoteMasks:
    """Fills `backend.ports.pipeline.MaskService`. One for all threads of the API."""

    def __init__(self, settings: InteractiveSettings) -> None:
        """Raises `Misconfigured` without an address."""
        if settings.service_url is None:
            raise Misconfigured("masks on demand need PREMASK__INTERACTIVE__SERVICE_URL")
        self._url, self._deadline_s = settings.service_url.rstrip("/"), settings.deadline_s
        token = settings.service_token
        headers = {} if token is None else {"Authorization": f"Bearer {token.get_secret_value()}"}
        timeout = httpx.Timeout(self._deadline_s, connect=min(_CONNECT_TIMEOUT_S, self._deadline_s))
        self._client = httpx.Client(headers=headers, timeout=timeout)

    def draw(
        self, bucket: str, key: str, size: tuple[int, int], model_digest: str, prompts: Sequence[ThingPrompt]
    ) -> list[SuggestedMask | None]:
        asked = Asked(bucket, key, size, model_digest, prompts, self._deadline_s)
        answer = self._request("POST", "/masks", asked_json(asked))
        return masks_of(answer.json()["masks"])

    def check(self) -> None:
        self._request("GET", "/health", None)

    def _request(self, method: str, path: str, body: object) -> httpx.Response:
        began = time.monotonic()
        try:
            answer = self._client.request(method, self._url + path, json=body)
        except httpx.TransportError as error:
            said = f"{type(error).__name__} after {time.monotonic() - began:.1f} s"
            raise ServiceUnavailable(f"the process that draws masks doesn't answer at {self._url}: {said}") from error
        if answer.status_code == HTTPStatus.OK:
            return answer
        said = answer.text.strip()[:300]
        if answer.status_code == HTTPStatus.GONE:
            raise ObjectGone(said)
        if answer.status_code == HTTPStatus.UNAUTHORIZED:
            raise Misconfigured(
                f"the process that draws masks at {self._url} refuses the token: interactive.service_token is to be "
                "the same there and here"
            )
        if answer.status_code < HTTPStatus.INTERNAL_SERVER_ERROR:
            raise BadInput(f"the process that draws masks refuses: {said}", code="masks_refused")
        raise ServiceUnavailable(
            f"the process that draws masks at {self._url} answers {answer.status_code}: {said}",
            code="model_loading" if said == LOADING else None,
        )
