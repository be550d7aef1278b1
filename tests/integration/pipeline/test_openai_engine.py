"""The engine for a model server, against a real HTTP server: what arrives, what comes back, what fails and how."""

import math
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import chain, repeat
from typing import Any

import numpy as np
import pytest

from backend.domain.errors import BadInput, Misconfigured, ModelServerFailed, PremaskError, ServiceUnavailable
from backend.profiles import ServerProfile
from tests.factories.model_server import ModelServer, Received, Reply, completion
from workers.pipeline.engines import Completion, Prompt, media
from workers.pipeline.engines.openai import OpenAIEngine

FINE = Reply(completion("found", [math.log(0.5), math.log(0.125)]))
BOUNDS = {"min_pixels": 3136, "max_pixels": 100_352}
TEXT = {"type": "text", "text": "what is it?"}
VIDEO, AUDIO, IMAGE = ({"type": kind, kind: "a medium"} for kind in ("video", "audio", "image"))

Serve = Callable[..., tuple[ModelServer, OpenAIEngine]]


@pytest.fixture
def waits() -> list[float]:
    """The seconds that the engine would have waited between tries."""
    return []


@pytest.fixture
def serve(waits: list[float]) -> Iterator[Serve]:
    """A server that gives these replies in order, the last for ever (or what a function says), and its engine."""
    with ExitStack() as stack:

        def make(*replies: Reply | Callable[[Received], Reply], **settings: Any) -> tuple[ModelServer, OpenAIEngine]:
            coming = chain(replies[:-1], repeat(replies[-1]))
            lock = threading.Lock()

            def respond(request: Received) -> Reply:
                with lock:
                    reply = next(coming)
                return reply if isinstance(reply, Reply) else reply(request)

            server = stack.enter_context(ModelServer(respond).running())
            profile = ServerProfile(base_url=server.base_url, model="omni", **settings)
            return server, OpenAIEngine(profile, sleep=waits.append)

        yield make


def ask(engine: OpenAIEngine, *words: str) -> list[Completion]:
    prompts = [Prompt(({"type": "text", "text": word},)) for word in words or ("what is it?",)]
    return engine.generate(prompts, **BOUNDS, max_new_tokens=64)


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(shape).integers(0, 256, shape, np.uint8)


def test_a_clip_arrives_as_the_model_is_to_see_and_hear_it(serve: Serve) -> None:
    server, engine = serve(FINE)
    frames = noise(5, 240, 432, 3)
    audio = np.sin(np.arange(8000, dtype=np.float32) / 20) * 1.2
    prompt = Prompt((VIDEO, AUDIO, TEXT), video=frames, audio=audio)
    [answer] = engine.generate([prompt], **BOUNDS, max_new_tokens=64, fps=2.0)
    [request] = server.received
    assert request.path == "/v1/chat/completions"
    assert [part["type"] for part in request.content] == ["video_url", "input_audio", "text"]
    assert request.text == "what is it?"
    expected = media.smart_resized(frames, multiple_px=28, **BOUNDS)
    assert expected.shape == (5, 224, 420, 3)
    np.testing.assert_array_equal(request.frames(), expected)
    rate_hz, heard = request.audio()
    assert rate_hz == engine.sample_rate_hz == 16_000
    np.testing.assert_array_equal(heard, audio)
    assert request.body["mm_processor_kwargs"] == {
        "size": {"shortest_edge": 224 * 420, "longest_edge": 224 * 420},
        "min_pixels": 224 * 420,
        "max_pixels": 224 * 420,
        "do_sample_frames": False,
        "fps": 2.0,
    }
    assert answer.image_size is None


def test_a_keyframe_arrives_resized_and_its_size_comes_back(serve: Serve) -> None:
    server, engine = serve(FINE, size_multiple_px=32)
    image = noise(300, 500, 3)
    [answer] = engine.generate([Prompt((TEXT, IMAGE), image=image)], **BOUNDS, max_new_tokens=64)
    [request] = server.received
    assert [part["type"] for part in request.content] == ["text", "image_url"]
    [expected] = media.smart_resized(image[None], multiple_px=32, **BOUNDS)
    np.testing.assert_array_equal(request.image(), expected)
    height, width = expected.shape[:2]
    assert answer.image_size == (width, height)
    assert "fps" not in request.body["mm_processor_kwargs"]
    assert request.body["mm_processor_kwargs"]["max_pixels"] == height * width


def test_it_asks_greedily_for_the_model_and_gives_text_and_confidence(serve: Serve) -> None:
    server, engine = serve(FINE)
    [answer] = ask(engine)
    body = server.received[0].body
    assert {name: body[name] for name in ("model", "temperature", "max_tokens", "logprobs")} == {
        "model": "omni", "temperature": 0, "max_tokens": 64, "logprobs": True,
    }  # fmt: skip
    assert body["mm_processor_kwargs"] == {}
    assert answer.text == "found"
    assert answer.confidence == pytest.approx(0.25)  # the geometric mean of 0.5 and 0.125


def test_the_order_of_the_contents_is_the_prompts(serve: Serve) -> None:
    server, engine = serve(FINE)
    prompt = Prompt((TEXT, AUDIO, VIDEO), video=noise(2, 56, 56, 3), audio=np.zeros(1600, np.float32))
    engine.generate([prompt], **BOUNDS, max_new_tokens=64, fps=4.0)
    assert [part["type"] for part in server.received[0].content] == ["text", "input_audio", "video_url"]


def test_the_key_comes_from_the_environment_and_stands_in_no_message(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMNI_KEY", "very-secret")
    server, engine = serve(FINE, Reply(b"no", 401), api_key_env="OMNI_KEY")
    ask(engine)
    assert server.received[0].headers["Authorization"] == "Bearer very-secret"
    with pytest.raises(Misconfigured, match="OMNI_KEY") as refused:
        ask(engine)
    assert "very-secret" not in str(refused.value)


def test_without_a_key_none_is_sent(serve: Serve) -> None:
    server, engine = serve(FINE)
    ask(engine)
    assert "Authorization" not in server.received[0].headers


@pytest.mark.parametrize("value", [None, ""])
def test_a_key_that_is_not_there_is_said_before_anything_is_sent(
    value: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMNI_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("OMNI_KEY", value)
    with pytest.raises(Misconfigured, match="OMNI_KEY, which is not set"):
        OpenAIEngine(ServerProfile(base_url="http://127.0.0.1:9/v1", model="omni", api_key_env="OMNI_KEY"))


def test_a_busy_server_is_asked_again_when_it_says(serve: Serve, waits: list[float]) -> None:
    server, engine = serve(Reply(b"", 429, {"Retry-After": "7"}), FINE)
    assert ask(engine)[0].text == "found"
    assert len(server.received) == 2
    assert server.received[0].body == server.received[1].body
    assert waits == [7.0]


def test_the_time_to_ask_again_may_be_a_date(serve: Serve, waits: list[float]) -> None:
    at = datetime.now(UTC) + timedelta(seconds=20)
    _, engine = serve(Reply(b"", 503, {"Retry-After": format_datetime(at, usegmt=True)}), FINE)
    ask(engine)
    assert waits == [pytest.approx(19, abs=2)]


def test_a_server_that_is_busy_for_long_is_left_alone(serve: Serve, waits: list[float]) -> None:
    server, engine = serve(Reply(b"come back later", 429, {"Retry-After": "3600"}))
    with pytest.raises(ServiceUnavailable, match=r"omni at http://127\.0\.0\.1.*429.*come back later"):
        ask(engine)
    assert len(server.received) == 1
    assert waits == []


def test_a_failure_that_passes_is_tried_again(serve: Serve, waits: list[float]) -> None:
    server, engine = serve(Reply(b"oh", 500), Reply(None), FINE)
    assert ask(engine)[0].text == "found"
    assert len(server.received) == 3
    assert waits == [0.5, 1.0]


@pytest.mark.parametrize(("status", "kind"), [(500, ModelServerFailed), (503, ServiceUnavailable)])
def test_a_failure_that_stays_is_told_after_all_tries(
    serve: Serve, waits: list[float], status: int, kind: type[PremaskError]
) -> None:
    server, engine = serve(Reply(b"CUDA out of memory", status), retries=2)
    with pytest.raises(kind, match=rf"omni at .*{status}.*CUDA out of memory"):
        ask(engine)
    assert len(server.received) == 3
    assert waits == [0.5, 1.0]


@pytest.mark.parametrize(
    ("status", "kind", "advice"),
    [(400, BadInput, "refuses"), (403, Misconfigured, "key"), (404, Misconfigured, "base_url"),
     (307, Misconfigured, "base_url")],
)  # fmt: skip
def test_a_refusal_is_not_tried_again(
    serve: Serve, waits: list[float], status: int, kind: type[PremaskError], advice: str
) -> None:
    server, engine = serve(Reply({"error": {"message": "prompt too long"}}, status))
    with pytest.raises(kind, match=rf"omni at .*{status}.*prompt too long.*{advice}"):
        ask(engine)
    assert len(server.received) == 1
    assert waits == []


UNREADABLE = {
    "no JSON": (b"<html>welcome</html>", "welcome.*OpenAI API"),
    "not an object": (b"[]", "no chat completion"),
    "no choices": ({**completion("", []), "choices": []}, "choices"),
    "no text": ({**completion("", []), "choices": [{"message": {"content": None}}]}, "content"),
    "no usage": ({"choices": [{"message": {"content": "found"}}]}, "usage"),
    "no probabilities": ({**completion("", []), "choices": [{"message": {"content": "found"}}]}, "logprobs"),
    "probabilities of nothing": (completion("found", []), "logprobs"),
}


@pytest.mark.parametrize(("body", "said"), UNREADABLE.values(), ids=UNREADABLE.keys())
def test_an_answer_that_says_nothing_is_an_error_and_no_guess(
    serve: Serve, body: dict[str, Any] | bytes, said: str
) -> None:
    server, engine = serve(Reply(body))
    with pytest.raises(Misconfigured, match=rf"omni at .*{said}"):
        ask(engine)
    assert len(server.received) == 1


def test_an_answer_of_no_tokens_is_an_empty_one(serve: Serve) -> None:
    _, engine = serve(Reply(completion("", [])))
    assert ask(engine) == [Completion("", 1.0, 1.0, None)]


def test_a_server_that_drops_frames_or_sound_is_found_out(serve: Serve) -> None:
    """vLLM keeps the first 32 frames of a video by default, and says nothing."""
    prompt = Prompt((VIDEO, AUDIO), video=noise(8, 56, 84, 3), audio=np.zeros(16_000, np.float32))
    media_tokens = 4 * 2 * 3 + 25
    for shown, is_enough in ((media_tokens, True), (media_tokens - 1, False)):
        _, engine = serve(Reply(completion("found", [0.0], prompt_tokens=shown)))
        if is_enough:
            engine.generate([prompt], **BOUNDS, max_new_tokens=64, fps=2.0)
        else:
            with pytest.raises(Misconfigured, match=rf"{shown} tokens.*{media_tokens}.*--media-io-kwargs"):
                engine.generate([prompt], **BOUNDS, max_new_tokens=64, fps=2.0)


def test_an_answer_that_takes_too_long_is_given_up_and_not_asked_for_again(serve: Serve, waits: list[float]) -> None:
    over = threading.Event()

    def hang(_: Received) -> Reply:
        assert over.wait(60)
        return FINE

    server, engine = serve(hang, timeout_s=0.2)
    try:
        with pytest.raises(ModelServerFailed, match=r"omni at .*no answer in 0\.2 s.*timeout_s"):
            ask(engine)
    finally:
        over.set()
    assert len(server.received) == 1
    assert waits == []


def test_a_server_that_is_not_there_is_unavailable(waits: list[float]) -> None:
    with socket.socket() as held:  # bound but not listening: connections are refused, and nobody else gets the port
        held.bind(("127.0.0.1", 0))
        base_url = f"http://127.0.0.1:{held.getsockname()[1]}/v1"
        engine = OpenAIEngine(ServerProfile(base_url=base_url, model="omni", retries=2), sleep=waits.append)
        with pytest.raises(ServiceUnavailable, match=rf"omni at {base_url}: no answer.*is the server up"):
            ask(engine)
    assert waits == [0.5, 1.0]


def test_never_more_than_the_bound_is_in_flight_over_all_calls(serve: Serve) -> None:
    bound = 3

    def hold(_: Received) -> Reply:
        # Until one too many is there, which must not come; each round of three waits this long for it.
        with server.changed:
            server.changed.wait_for(lambda: server.in_flight > bound, timeout=0.3)
        return FINE

    server, engine = serve(hold, max_in_flight=bound)
    callers = [threading.Thread(target=ask, args=(engine, *"abcd")) for _ in range(2)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(server.received) == 8
    assert server.most_in_flight == bound


def test_answers_come_in_the_order_of_the_prompts(serve: Serve) -> None:
    last_was_answered = threading.Event()

    def reply(request: Received) -> Reply:
        if request.text == "c":
            last_was_answered.set()
        assert last_was_answered.wait(60)
        return Reply(completion(request.text.upper(), [0.0]))

    _, engine = serve(reply, max_in_flight=3)
    assert [answer.text for answer in ask(engine, *"abc")] == ["A", "B", "C"]


def test_after_a_failure_what_was_not_sent_is_not_sent(serve: Serve) -> None:
    told = threading.Event()

    def wait(_: Received) -> Reply:
        assert told.wait(60)
        return FINE

    # The second may be on its way when the first fails; it is held there until the call has ended.
    server, engine = serve(Reply(b"no", 400), wait, max_in_flight=1)
    with pytest.raises(BadInput):
        ask(engine, *"abcdef")
    told.set()
    ask(engine, "the next call")
    texts = [request.text for request in server.received]
    assert texts in (["a", "the next call"], ["a", "b", "the next call"])
