"""The reward service over real HTTP: what goes in and comes out is the same, and an outage is None, not an error."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Thread
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.domain.annotation import Box
from backend.domain.errors import Misconfigured, ServiceUnavailable
from backend.domain.masks import encode_mask
from workers.learning.downstream import Found, Keyframe
from workers.learning.service import RemoteDownstream, from_json, make_server, pack, to_json, unpack

FRAMES = np.arange(2 * 6 * 8 * 3, dtype=np.uint8).reshape(2, 6, 8, 3)
ROLLOUTS = [[Keyframe(0, "the “red” circle"), Keyframe(1, "")], []]


class Echo:
    """Finds one box a keyframe, as large as its description is long."""

    def __init__(self, failing: bool = False) -> None:
        self.failing, self.asked = failing, list[Any]()

    def follow(self, frames: Any, rollouts: Sequence[Sequence[Keyframe]], *, segment: bool) -> list[Found]:
        if self.failing:
            raise RuntimeError("out of memory")
        self.asked.append((frames, rollouts, segment))
        found = []
        for keyframes in rollouts:
            boxes = tuple((Box(0, 0, len(k.description) + 0.1, 1 / 3),) for k in keyframes)
            mask = encode_mask(frames[0, :, :, 0] > 20)
            found.append(Found(boxes, tuple({1: mask} for _ in keyframes) if segment else None))
        return found


@contextmanager
def serving(models: Any, token: str | None = None) -> Iterator[str]:
    server = make_server(models, "v1", "127.0.0.1", 0, token=token)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_what_is_found_over_http_is_what_is_found_here() -> None:
    models = Echo()
    with serving(models, token="secret") as url:
        remote = RemoteDownstream(url, "v1", token="secret")
        remote.check()
        for segment in (True, False):
            assert remote.follow(FRAMES, ROLLOUTS, segment=segment) == Echo().follow(FRAMES, ROLLOUTS, segment=segment)
    frames, rollouts, segment = models.asked[0]
    assert np.array_equal(frames, FRAMES)
    assert (rollouts, segment) == (ROLLOUTS, True)


def test_an_outage_is_none_and_said(caplog: pytest.LogCaptureFixture) -> None:
    with serving(Echo()) as url:
        remote = RemoteDownstream(url, "v1", timeout_s=5)
        assert remote.follow(FRAMES, ROLLOUTS, segment=True) is not None
    assert remote.follow(FRAMES, ROLLOUTS, segment=True) is None
    assert "no rewards of System 2 and SAM2 from http" in caplog.text
    with pytest.raises(ServiceUnavailable, match="does not answer"):
        remote.check()
    with serving(Echo(failing=True)) as url:
        assert RemoteDownstream(url, "v1", timeout_s=5).follow(FRAMES, ROLLOUTS, segment=True) is None


def test_what_would_not_pass_is_an_error() -> None:
    with serving(Echo(), token="secret") as url:
        for token in (None, "wrong"):
            with pytest.raises(Misconfigured, match=r"refuses.*the token is not the service's"):
                RemoteDownstream(url, "v1", token=token).follow(FRAMES, ROLLOUTS, segment=True)
        with pytest.raises(Misconfigured, match="start it with the same profile"):
            RemoteDownstream(url, "v2", token="secret").check()
        with pytest.raises(Misconfigured, match="keyframe 2 is none of the 2 frames"):
            RemoteDownstream(url, "v1", token="secret").follow(FRAMES, [[Keyframe(2, "x")]], segment=True)


@pytest.mark.parametrize("body", [b"", b"{}", b"PK\x03\x04 no archive", pack(FRAMES[0], ROLLOUTS, True)])
def test_another_body_is_refused_and_the_service_goes_on(body: bytes) -> None:
    with serving(Echo()) as url:
        answer = httpx.post(f"{url}/follow", content=body)
        assert answer.status_code == 400
        assert answer.json()["error"]
        assert httpx.post(f"{url}/follow", content=pack(FRAMES, ROLLOUTS, False)).status_code == 200
        assert httpx.post(f"{url}/other", content=b"").status_code == 404


def test_a_pickle_is_never_opened() -> None:
    body = pack(np.array([{"an": "object"}], dtype=object), ROLLOUTS, True)
    with pytest.raises(ValueError, match="no request for rewards"):
        unpack(body)


corners = st.floats(-10, 5000, allow_nan=False)


@given(st.lists(st.lists(st.lists(st.tuples(corners, corners, corners, corners), max_size=3), max_size=4), max_size=4))
def test_boxes_survive_the_way_to_the_last_bit(boxes: list[list[list[tuple[float, ...]]]]) -> None:
    found = [Found(tuple(tuple(Box(*c) for c in here) for here in one), None) for one in boxes]
    assert from_json(json.loads(json.dumps(to_json(found)))) == found


@given(st.lists(st.lists(st.builds(Keyframe, st.integers(0, 1), st.text(max_size=20)), max_size=4), max_size=4))
def test_a_request_survives_the_way(rollouts: list[list[Keyframe]]) -> None:
    frames, found, segment = unpack(pack(FRAMES, rollouts, True))
    assert np.array_equal(frames, FRAMES)
    assert (found, segment) == (rollouts, True)
