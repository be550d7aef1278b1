"""A Qwen2.5-Omni on an OpenAI-compatible server. The form is vLLM's; written from its sources, not yet run against it.

What vLLM takes, and where that was read (github.com/vllm-project/vllm):

- Frames of a video: one `video_url` `data:video/jpeg;base64,<frame>,<frame>,…` (`VideoMediaIO.load_base64` in
  multimodal/media/video.py; Qwen's own README for serving Qwen2.5-VL sends them so). Each frame is opened by Pillow
  whatever the address calls it (`ImageMediaIO.load_base64` drops the media type), so ours are PNG: the model sees the
  bytes it would see in this process, where JPEG would smear exactly the small things that System 2 is asked for.
- Sound: `input_audio` with format wav (docs/features/multimodal_inputs.md).
- The rate at which frames are presented, and that they are sampled already: `mm_processor_kwargs`, a field of the
  request that is handed to the model's processor (chat_completion/protocol.py; pull request 13533 added it for just
  this). Qwen2.5-Omni's processor makes seconds of `fps`, one number.
- Sizes: the processor would resize again, videos to 128·28·28 pixels at least, by its own defaults. So it is told that
  the least and most it may make is what it gets, under both names: `size` is transformers' present one, `min_pixels`
  and `max_pixels` that of releases before it; vLLM's own count of the tokens reads both (models/qwen2_vl.py).
- Newer vLLM takes the first 32 frames of a video and drops the rest without a word, unless served with
  `--media-io-kwargs '{"video": {"num_frames": -1}}'`. Hence the count of tokens below.
"""

import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, ValidationError

from backend.domain.errors import Misconfigured
from backend.profiles import ServerProfile
from workers.pipeline.engines import Completion, Prompt, media
from workers.pipeline.engines.transport import ChatServer


class _Token(BaseModel):
    logprob: float


class _Logprobs(BaseModel):
    content: list[_Token] | None = None


class _Message(BaseModel):
    content: str


class _Choice(BaseModel):
    message: _Message
    logprobs: _Logprobs | None = None


class _Usage(BaseModel):
    prompt_tokens: int


class _Answer(BaseModel):
    choices: Annotated[list[_Choice], Field(min_length=1)]
    usage: _Usage


class OpenAIEngine:
    """Up to `max_in_flight` requests at a time, over all calls and threads; each is one prompt.

    Raises `Misconfigured` if the profile names a variable for the key that is not set.
    """

    def __init__(self, server: ServerProfile, sleep: Callable[[float], None] = time.sleep) -> None:
        self._server = server
        self._chat = ChatServer(server, sleep)
        # Pictures are resized and packed in these threads too, so that no more requests than that lie in memory.
        self._pool = ThreadPoolExecutor(server.max_in_flight, "model-server")

    @property
    def sample_rate_hz(self) -> int:
        return media.SAMPLE_RATE_HZ

    @property
    def size_multiple_px(self) -> int:
        return self._server.size_multiple_px

    def generate(
        self,
        prompts: Sequence[Prompt],
        *,
        min_pixels: int,
        max_pixels: int,
        max_new_tokens: int,
        fps: float | None = None,
    ) -> list[Completion]:
        """Greedy completions, one a prompt, in order. `fps`: the nominal rate at which video frames are presented.

        `confidence` and `lowest` are over the tokens of which the server tells. Raises what `ChatServer.post` raises,
        and `Misconfigured` if an answer has no text, no token probabilities or no count of the prompt's tokens, or if
        the server showed the model less than it was sent. The first failure ends the call: what is not under way by
        then is not sent.
        """
        futures = [
            self._pool.submit(self._complete, prompt, min_pixels, max_pixels, max_new_tokens, fps) for prompt in prompts
        ]
        try:
            return [future.result() for future in futures]
        finally:
            for future in futures:
                future.cancel()

    def _complete(
        self, prompt: Prompt, min_pixels: int, max_pixels: int, max_new_tokens: int, fps: float | None
    ) -> Completion:
        bounds = {"multiple_px": self._server.size_multiple_px, "min_pixels": min_pixels, "max_pixels": max_pixels}
        video = prompt.video
        if video is not None and not prompt.video_is_sized:
            video = media.smart_resized(video, **bounds)
        image = None if prompt.image is None else media.smart_resized(prompt.image[None], **bounds)
        request = {
            "model": self._server.model,
            "messages": [{"role": "user", "content": _content(prompt, video, image)}],
            "temperature": 0,
            "max_tokens": max_new_tokens,
            "logprobs": True,
            "mm_processor_kwargs": _processor_kwargs(video, image, fps),
        }
        answer = self._understood(self._chat.post(request))
        self._check_media_tokens(answer.usage.prompt_tokens, prompt, video, image)
        size = None if image is None else (image.shape[2], image.shape[1])
        [choice, *_] = answer.choices
        return Completion(choice.message.content, *self._confidence(choice), size)

    def _understood(self, answer: Any) -> _Answer:
        try:
            return _Answer.model_validate(answer)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the answer"
            raise Misconfigured(f"{self._chat}: its answer is no chat completion: {where}: {first['msg']}") from error

    def _confidence(self, choice: _Choice) -> tuple[float, float]:
        """The geometric mean and the least of the tokens' probabilities. There is no stand-in for them: labelers see
        what comes of them as a score."""
        tokens = None if choice.logprobs is None else choice.logprobs.content
        if tokens is None or (choice.message.content and not tokens):
            raise Misconfigured(
                f"{self._chat}: it gives no token probabilities, so no box would have a score; serve the model so that "
                "`logprobs` is honoured (vLLM: --max-logprobs of at least 1)"
            )
        told = [token.logprob for token in tokens] or [0.0]
        return math.exp(sum(told) / len(told)), math.exp(min(told))

    def _check_media_tokens(
        self, shown: int, prompt: Prompt, video: NDArray[np.uint8] | None, image: NDArray[np.uint8] | None
    ) -> None:
        """The prompt as the model saw it must have room for every piece of every medium, or some were dropped."""
        multiple_px, sent = self._server.size_multiple_px, 0
        if video is not None:
            sent += media.picture_tokens(video, multiple_px, video=True)
        if image is not None:
            sent += media.picture_tokens(image, multiple_px, video=False)
        if prompt.audio is not None:
            sent += media.audio_tokens(prompt.audio)
        if shown < sent:
            raise Misconfigured(
                f"{self._chat}: it showed the model {shown} tokens, but the frames and sound sent to it alone are "
                f"{sent}; check its limits (vLLM: --media-io-kwargs, --limit-mm-per-prompt, --mm-processor-kwargs) and "
                f"size_multiple_px ({multiple_px})"
            )


def _content(prompt: Prompt, video: NDArray[np.uint8] | None, image: NDArray[np.uint8] | None) -> list[dict[str, Any]]:
    """The prompt's parts in their order, with the media in them."""
    content: list[dict[str, Any]] = []
    for part in prompt.content:
        kind = part["type"]
        if kind == "text":
            content.append({"type": "text", "text": part["text"]})
        elif kind == "video" and video is not None:
            frames = ",".join(map(media.png_base64, video))
            content.append({"type": "video_url", "video_url": {"url": f"data:video/jpeg;base64,{frames}"}})
        elif kind == "image" and image is not None:
            url = f"data:image/png;base64,{media.png_base64(image[0])}"
            content.append({"type": "image_url", "image_url": {"url": url}})
        elif kind == "audio" and prompt.audio is not None:
            sound = {"data": media.wav_base64(prompt.audio), "format": "wav"}
            content.append({"type": "input_audio", "input_audio": sound})
        else:
            raise ValueError(f"the prompt has a part {kind!r} and no such medium")
    return content


def _processor_kwargs(
    video: NDArray[np.uint8] | None, image: NDArray[np.uint8] | None, fps: float | None
) -> dict[str, Any]:
    """What makes the server's resize the identity, and keeps it from sampling frames again."""
    areas = [pictures.shape[1] * pictures.shape[2] for pictures in (video, image) if pictures is not None]
    kwargs: dict[str, Any] = {}
    if areas:
        least, most = min(areas), max(areas)
        kwargs = {
            "size": {"shortest_edge": least, "longest_edge": most},
            "min_pixels": least,
            "max_pixels": most,
        }
    if video is not None:
        kwargs |= {"do_sample_frames": False} if fps is None else {"do_sample_frames": False, "fps": fps}
    return kwargs
