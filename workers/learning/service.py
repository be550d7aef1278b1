"""The reward service: System 2 and SAM2 over HTTP, for when they are on other GPUs than the model in training.

One route, spoken by one client of ours, from a process that holds two models and works off one request at a time: the
standard library's server is enough, and this package stays free of a web framework. Pictures travel as a NumPy archive
(which never unpickles), everything else as JSON. Rewards aren't computed here: they stay pure, beside the trainer.
"""

import hmac
import io
import json
import logging
from collections.abc import Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from typing import Any
from zipfile import BadZipFile

import httpx
import numpy as np
from numpy.typing import NDArray

from backend.domain.annotation import Box, Mask
from backend.domain.errors import Misconfigured, ServiceUnavailable
from backend.domain.masks import from_counts
from workers.learning.downstream import Follows, Found, Keyframe

log = logging.getLogger(__name__)

#: Of a request: 24 frames of 4K are 0.6 GB.
_LARGEST_BYTES = 1 << 30
_CONNECT_TIMEOUT_S = 5.0


def pack(frames: NDArray[Any], rollouts: Sequence[Sequence[Keyframe]], segment: bool) -> bytes:
    """The body of a request."""
    asked = {
        "rollouts": [[[k.position, k.description] for k in keyframes] for keyframes in rollouts],
        "segment": segment,
    }  # fmt: skip
    buffer = io.BytesIO()
    np.savez(buffer, frames=frames, asked=np.frombuffer(json.dumps(asked).encode(), np.uint8))
    return buffer.getvalue()


def unpack(body: bytes) -> tuple[NDArray[Any], list[list[Keyframe]], bool]:
    """What `pack` was given. Raises `ValueError` for anything else."""
    try:
        with np.load(io.BytesIO(body), allow_pickle=False) as archive:
            frames, asked = archive["frames"], json.loads(archive["asked"].tobytes())
        rollouts = [[Keyframe(int(n), str(words)) for n, words in keyframes] for keyframes in asked["rollouts"]]
        segment = bool(asked["segment"])
    except (EOFError, OSError, BadZipFile, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"the body is no request for rewards: {error}") from error
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8 or not frames.size:
        raise ValueError(f"frames are {frames.dtype} {frames.shape}; they must be uint8 (n, height, width, 3)")
    if wrong := [k.position for keyframes in rollouts for k in keyframes if not 0 <= k.position < len(frames)]:
        raise ValueError(f"keyframe {wrong[0]} is none of the {len(frames)} frames")
    return frames, rollouts, segment


def to_json(found: Sequence[Found]) -> list[dict[str, Any]]:
    """The body of an answer, a JSON object for each rollout."""
    return [
        {
            "boxes": [[[b.x1, b.y1, b.x2, b.y2] for b in boxes] for boxes in one.boxes],
            "tracks": None if one.tracks is None else [
                {str(n): [mask.counts, mask.height, mask.width] for n, mask in track.items()} for track in one.tracks
            ],
        }
        for one in found
    ]  # fmt: skip


def from_json(rows: Sequence[dict[str, Any]]) -> list[Found]:
    """What `to_json` was given."""

    def track(masks: dict[str, Any]) -> dict[int, Mask]:
        return {int(n): from_counts(*mask) for n, mask in masks.items()}

    return [
        Found(
            tuple(tuple(Box(*corners) for corners in boxes) for boxes in row["boxes"]),
            None if row["tracks"] is None else tuple(track(masks) for masks in row["tracks"]),
        )
        for row in rows
    ]


class RemoteDownstream:
    """The models behind a reward service. `version`: the digest of the models that are expected there."""

    def __init__(self, url: str, version: str, *, token: str | None = None, timeout_s: float = 120.0) -> None:
        self._url, self._version = url.rstrip("/"), version
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        timeout = httpx.Timeout(timeout_s, connect=min(_CONNECT_TIMEOUT_S, timeout_s))
        self._client = httpx.Client(headers=headers, timeout=timeout)

    def check(self) -> None:
        """Before a training begins. Raises `ServiceUnavailable` if nobody answers there, `Misconfigured` if others
        than the expected models do, or the token is not the right one."""
        try:
            answer = self._client.get(f"{self._url}/health")
        except httpx.TransportError as error:
            raise ServiceUnavailable(f"the reward service at {self._url} does not answer: {error}") from error
        self._refused(answer)
        if answer.status_code != HTTPStatus.OK:
            raise ServiceUnavailable(f"the reward service at {self._url} answers {answer.status_code}")
        if (found := answer.json().get("version")) != self._version:
            raise Misconfigured(
                f"the reward service at {self._url} has models {str(found)[:12]}, the profile has"
                f" {self._version[:12]}: start it with the same profile"
            )

    def follow(
        self, frames: NDArray[Any], rollouts: Sequence[Sequence[Keyframe]], *, segment: bool
    ) -> list[Found] | None:
        """As `Follows.follow`; None, and a warning, if the service is away, too slow, or fails. Raises `Misconfigured`
        if it refuses the request: that would not pass."""
        try:
            answer = self._client.post(f"{self._url}/follow", content=pack(frames, rollouts, segment))
            self._refused(answer)
            answer.raise_for_status()
            return from_json(answer.json())
        except (httpx.HTTPError, json.JSONDecodeError) as error:
            log.warning("no rewards of System 2 and SAM2 from %s: %s", self._url, error or type(error).__name__)
            return None

    def _refused(self, answer: httpx.Response) -> None:
        if 400 <= answer.status_code < 500 and answer.status_code != HTTPStatus.TOO_MANY_REQUESTS:
            raise Misconfigured(f"the reward service at {self._url} refuses: {answer.text.strip()[:300]}")


def make_server(
    downstream: Follows, version: str, host: str, port: int, *, token: str | None = None
) -> ThreadingHTTPServer:
    """A server that is bound and not yet serving; port 0: any that is free."""
    turn = Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self._admitted():
                if self.path == "/health":
                    self._answer(HTTPStatus.OK, {"version": version})
                else:
                    self._answer(HTTPStatus.NOT_FOUND, {"error": "there are GET /health and POST /follow"})

        def do_POST(self) -> None:
            length = self.headers.get("Content-Length", "")
            if not length.isdigit() or int(length) > _LARGEST_BYTES:
                self.close_connection = True
                self._answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, {"error": f"at most {_LARGEST_BYTES} bytes, counted"})
                return
            body = self.rfile.read(int(length))
            if not self._admitted():
                return
            if self.path != "/follow":
                self._answer(HTTPStatus.NOT_FOUND, {"error": "there are GET /health and POST /follow"})
                return
            try:
                frames, rollouts, segment = unpack(body)
            except ValueError as error:
                self._answer(HTTPStatus.BAD_REQUEST, {"error": str(error)})
                return
            self._answer(HTTPStatus.OK, self._followed(frames, rollouts, segment))

        def _followed(self, frames: NDArray[Any], rollouts: list[list[Keyframe]], segment: bool) -> Any:
            with turn:
                return to_json(downstream.follow(frames, rollouts, segment=segment) or [])

        def _admitted(self) -> bool:
            given = self.headers.get("Authorization", "")
            if token is None or hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
                return True
            self._answer(HTTPStatus.UNAUTHORIZED, {"error": "the token is not the service's"})
            return False

        def _answer(self, status: HTTPStatus, value: Any) -> None:
            body = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *values: Any) -> None:
            log.info(format, *values)

    return ThreadingHTTPServer((host, port), Handler)
