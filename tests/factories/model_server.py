"""A real HTTP server that speaks chat completions as vLLM does, answering what a test tells it to."""

import base64
import io
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from PIL import Image
from scipy.io import wavfile


@dataclass(frozen=True)
class Received:
    """A request as it came."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def content(self) -> list[dict[str, Any]]:
        [message] = self.body["messages"]
        assert message["role"] == "user"
        return list(message["content"])

    @property
    def text(self) -> str:
        [text] = [part["text"] for part in self.content if part["type"] == "text"]
        return str(text)

    def frames(self) -> np.ndarray:
        """The video's frames, (T, H, W, 3), read as vLLM does: each part of the list, whatever its coding."""
        [url] = [part["video_url"]["url"] for part in self.content if part["type"] == "video_url"]
        kind, _, frames = url.partition(",")
        assert kind == "data:video/jpeg;base64"
        return np.stack([_picture(frame) for frame in frames.split(",")])

    def image(self) -> np.ndarray:
        [url] = [part["image_url"]["url"] for part in self.content if part["type"] == "image_url"]
        kind, _, picture = url.partition(",")
        assert kind == "data:image/png;base64"
        return _picture(picture)

    def audio(self) -> tuple[int, np.ndarray]:
        [sound] = [part["input_audio"] for part in self.content if part["type"] == "input_audio"]
        assert sound["format"] == "wav"
        return wavfile.read(io.BytesIO(base64.b64decode(sound["data"])))


def _picture(encoded: str) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(base64.b64decode(encoded, validate=True))).convert("RGB"))


@dataclass(frozen=True)
class Reply:
    """`body`: as it is, or JSON of a dictionary; None: the connection is closed without an answer."""

    body: dict[str, Any] | bytes | None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


def completion(text: str, logprobs: list[float], prompt_tokens: int = 1_000_000) -> dict[str, Any]:
    """A chat completion with the tokens' log probabilities."""
    tokens = [{"token": "", "logprob": value, "top_logprobs": []} for value in logprobs]
    return {
        "object": "chat.completion",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": text}, "logprobs": {"content": tokens}},
        ],
        "usage": {"prompt_tokens": prompt_tokens, "completion_tokens": len(tokens)},
    }


class ModelServer:
    """`received`: the requests in the order in which they came. `most_in_flight`: of requests at one time."""

    def __init__(self, respond: Callable[[Received], Reply]) -> None:
        self.received: list[Received] = []
        self.in_flight = self.most_in_flight = 0
        self.changed = threading.Condition()
        self._respond = respond
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.base_url = f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                request = Received(self.path, dict(self.headers), body)
                with server.changed:
                    server.received.append(request)
                    server.in_flight += 1
                    server.most_in_flight = max(server.most_in_flight, server.in_flight)
                    server.changed.notify_all()
                reply = server._respond(request)
                # Counted out before the answer: what it sets free must not be counted beside it.
                with server.changed:
                    server.in_flight -= 1
                    server.changed.notify_all()
                # A client that no longer waits is a thing that tests want.
                with suppress(ConnectionError):
                    self._answer(reply)

            def _answer(self, reply: Reply) -> None:
                if reply.body is None:
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
                self.send_response(reply.status)
                for name, value in {**reply.headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        return Handler

    @contextmanager
    def running(self) -> Iterator["ModelServer"]:
        thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield self
        finally:
            self._http.shutdown()
            thread.join()
            self._http.server_close()
