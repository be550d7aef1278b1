"""System 1: looks at the whole clip at low resolution, chooses moments, rewrites the instruction for a single image.

Prompt and presentation follow Figures 1 and 2 of the appendix; the words live in the profile's template folder.
"""

import random
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.domain.frames import Sampling
from backend.domain.runs import Mode
from backend.profiles import System1Profile
from workers.pipeline.engines import Engine, Prompt
from workers.pipeline.engines.media import smart_resized
from workers.pipeline.parsing import System1Answer, parse_system1, parse_system1_of_image
from workers.pipeline.prompts import load_template, neutralise


@dataclass(frozen=True, slots=True)
class System1Result:
    """`confidence`, `lowest`: geometric mean and least of its tokens' probabilities."""

    raw_output: str
    confidence: float
    lowest: float
    answer: System1Answer


class Asker:
    """How System 1 is asked: the words, and the order in which they and the media come, as the profile has them."""

    def __init__(self, profile: System1Profile) -> None:
        self._profile = profile
        self._templates = {mode: load_template(profile.prompts, f"system1_{mode}") for mode in (Mode.VOS, Mode.AVS)}

    def text(
        self, instruction: str, mode: Mode, duration_s: float, audio_duration_s: float, keyframes: int, seed: int
    ) -> str:
        """The user's turn in words. The example timestamps are drawn from `seed`, so that none can be learned by
        heart."""
        # A folder of one's own needs it only where it is asked for.
        template = self._templates.get(mode) or load_template(self._profile.prompts, f"system1_{mode}")
        draw = random.Random(seed)
        start_s = round(draw.uniform(0, max(0.0, duration_s - 0.5)) * 2) / 2
        return template.format(
            instruction=neutralise(instruction),
            duration_s=f"{duration_s:g}",
            audio_duration_s=f"{audio_duration_s:g}",
            keyframes=keyframes,
            example_start=f"{start_s % 60:05.2f}",
            example_end=f"{(start_s + 0.5) % 60:05.2f}",
        )

    def prompt(
        self, frames: NDArray[Any], duration_s: float, audio: NDArray[Any] | None, sample_rate_hz: int,
        instruction: str, mode: Mode, *, keyframes: int, seed: int, seen: str | None = None,
    ) -> Prompt:  # fmt: skip
        """The whole turn. `frames`: (n, H, W, 3) uint8 RGB, the sampled frames, shown as `duration_s` nominal seconds;
        `audio`: float32 mono at that rate; without it, the words are those for pictures alone. In mode `aid` the one
        frame is shown as an image. `seen`: it is asked a second time, with what System 2 saw in words."""
        mode = Mode.VOS if audio is None else mode
        audio_s = 0.0 if audio is None else audio.size / sample_rate_hz
        text = self.text(instruction, mode, duration_s, audio_s, keyframes, seed)
        if seen is not None:
            text += load_template(self._profile.prompts, "system1_again").format(seen=neutralise(seen))
        parts = {"text": {"type": "text", "text": text}, "video": {"type": "video", "video": "sampled frames"}}
        if mode is Mode.AID:
            parts["video"] = {"type": "image", "image": "first frame"}
        if audio is not None:
            parts["audio"] = {"type": "audio", "audio": "whole sound"}
        content = tuple(parts[name] for name in self._profile.content_order if name in parts)
        if mode is Mode.AID:
            return Prompt(content, image=frames[0], audio=audio)
        return Prompt(content, video=frames, audio=audio)


class System1:
    def __init__(self, engine: Engine, profile: System1Profile) -> None:
        self._engine, self._profile, self._asker = engine, profile, Asker(profile)

    def prompt_text(
        self, instruction: str, mode: Mode, duration_s: float, audio_duration_s: float, keyframes: int, seed: int
    ) -> str:
        """The user's turn in words."""
        return self._asker.text(instruction, mode, duration_s, audio_duration_s, keyframes, seed)

    def shown(self, image: NDArray[Any]) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB at the size at which the engine shows it to the model: so `choose` takes frames, and a
        clip's sampled frames needn't be held at source resolution."""
        bounds = {"min_pixels": self._profile.min_pixels, "max_pixels": self._profile.max_pixels}
        [resized] = smart_resized(image[None], multiple_px=self._engine.size_multiple_px, **bounds)
        return np.asarray(resized, np.uint8)

    def choose(
        self, frames: NDArray[Any], sampling: Sampling, audio: NDArray[Any] | None, instruction: str, mode: Mode,
        *, keyframes: int, seed: int, seen: str | None = None,
    ) -> System1Result:  # fmt: skip
        """Ask once. `frames`: (n, h, w, 3) uint8 RGB, the sampled frames as `shown`; `audio`: float32 mono at the
        model's rate; without it, the words are those for pictures alone."""
        seconds = sampling.nominal_duration_s
        prompt = self._asker.prompt(
            frames, seconds, audio, self._engine.sample_rate_hz, instruction, mode, keyframes=keyframes, seed=seed,
            seen=seen,
        )  # fmt: skip
        [completion] = self._engine.generate(
            [replace(prompt, video_is_sized=prompt.video is not None)],
            min_pixels=self._profile.min_pixels,
            max_pixels=self._profile.max_pixels,
            max_new_tokens=self._profile.max_new_tokens,
            fps=sampling.nominal_fps,
        )
        if mode is Mode.AID:
            answer = parse_system1_of_image(completion.text, seconds)
        else:
            answer = parse_system1(completion.text, seconds, keyframes)
        return System1Result(completion.text, completion.confidence, completion.lowest, answer)
