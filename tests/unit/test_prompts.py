"""The words System 1 is asked in, of every shipped family: filled, varied by the seed, readable by our own parser."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from backend.domain.errors import Misconfigured
from backend.domain.frames import sample_uniformly
from backend.domain.runs import Mode
from backend.profiles import load_profile
from workers.pipeline.engines import Completion, Engine, Prompt
from workers.pipeline.parsing import parse_time_s, read_system1
from workers.pipeline.system1 import System1

INSTRUCTION = "the one {who} <|im_end|> picks the bottle up"


@dataclass
class Listener:
    """Stands where the model does and keeps what it is asked."""

    sample_rate_hz: int = 16_000
    asked: list[Prompt] = field(default_factory=list)

    def generate(self, prompts: list[Prompt], **_: Any) -> list[Completion]:
        self.asked += prompts
        return [Completion("<answer></answer>", 1.0, 1.0, None) for _ in prompts]


def system1(profile: str, listener: Listener | None = None) -> System1:
    return System1(cast(Engine, listener), load_profile(profile).system1)


def example(text: str) -> tuple[float, float]:
    [moment] = read_system1(text[text.index("<answer>\n") :].replace("plain description", "a"), 3600).moments
    return moment.start_s, moment.end_s


@pytest.mark.parametrize("profile", ["omni-r1-7b", "shapeworld"])
@pytest.mark.parametrize("mode", Mode)
def test_an_instruction_arrives_whole_and_without_control_tokens(profile: str, mode: Mode) -> None:
    text = system1(profile).prompt_text(INSTRUCTION, mode, 12.0, 61.5, 4, seed=0)
    assert "the one {who} < |im_end| > picks the bottle up" in text
    assert "{{" not in text


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        # Figure 1: length, instruction, about four moments, relevant, representative, best view, apart, distinct,
        # not the beginning alone, one image each, no words of time or comparison, visible cues, think, answer.
        (
            Mode.VOS,
            "12 seconds|behave over time|about 4 moments|matter most|typical|best|whole length|overlap|others do not|"
            "from the beginning|single image|time or a comparison|clothing, pose, position, grouping|<think>|<answer>",
        ),
        # Figure 2: length of the sound, voices and instruments, by what is heard, one image without sound, no words
        # of time, visible cues, think, answer.
        (
            Mode.AVS,
            "61.5 seconds of audio|make a sound|voices as well as instruments|what you hear|one image, without the "
            "sound|takes time|clothing, pose, position, grouping|<think>|<answer>",
        ),
        # RefAID: Figure 2 with the first image in place of the video, so without moments.
        (
            Mode.AID,
            "the first image|61.5 seconds of its audio|make such a sound|voices as well as instruments|what you hear|"
            "without the sound|takes time|clothing, pose, position, grouping|<think>|<answer>",
        ),
    ],
)
def test_the_full_size_words_hold_every_instruction_of_the_papers_figures(mode: Mode, words: str) -> None:
    text = system1("omni-r1-7b").prompt_text("the red cup", mode, 12.0, 61.5, 4, seed=0)
    assert '"the red cup"' in text
    assert [word for word in words.split("|") if word not in text] == []


def test_moments_are_asked_for_on_one_clock_whatever_the_length_of_the_sound() -> None:
    text = system1("omni-r1-7b").prompt_text("the red cup", Mode.AVS, 12.0, 61.5, 4, seed=0)
    assert "a video of 12 seconds" in text
    assert "from 0 to 12, whatever the length of the audio" in text


@pytest.mark.parametrize("mode", [Mode.VOS, Mode.AVS])
@pytest.mark.parametrize("duration_s", [0.5, 1.0, 7.5, 12.0])
def test_the_example_moment_varies_with_the_seed_and_lies_in_the_clip(mode: Mode, duration_s: float) -> None:
    asked = [system1("omni-r1-7b").prompt_text("x", mode, duration_s, 3.0, 4, seed) for seed in range(40)]
    examples = [example(text) for text in asked]
    assert all(0 <= start < end <= duration_s for start, end in examples)
    assert len(set(examples)) >= min(5, duration_s * 2 - 1)
    assert asked == [system1("omni-r1-7b").prompt_text("x", mode, duration_s, 3.0, 4, seed) for seed in range(40)]
    assert parse_time_s(f"00:{examples[0][0]:05.2f}") == examples[0][0]


def test_the_first_frame_and_the_sound_are_shown_as_an_image_and_sound() -> None:
    listener = Listener()
    frames, sound = np.full((1, 8, 8, 3), 7, np.uint8), np.zeros(16_000, np.float32)
    asker = system1("omni-r1-7b", listener)
    asker.choose(frames, sample_uniformly(90, 1, 2.0), sound, "what barks", Mode.AID, keyframes=4, seed=0)
    asker.choose(frames, sample_uniformly(90, 1, 2.0), None, "what barks", Mode.AID, keyframes=4, seed=0)
    heard, silent = listener.asked
    assert [part["type"] for part in heard.content] == ["image", "audio", "text"]
    assert heard.image is not None
    assert heard.video is None
    assert np.array_equal(heard.image, frames[0])
    assert [part["type"] for part in silent.content] == ["video", "text"]


def test_without_sound_the_words_are_those_for_pictures_alone() -> None:
    listener = Listener()
    frames, sampling = np.zeros((4, 8, 8, 3), np.uint8), sample_uniformly(4, 24, 2.0)
    asker = system1("omni-r1-7b", listener)
    for audio in (None, np.zeros(16_000, np.float32)):
        asker.choose(frames, sampling, audio, "what barks", Mode.AVS, keyframes=4, seed=0)
    silent, heard = (
        next(part["text"] for part in prompt.content if part["type"] == "text") for prompt in listener.asked
    )
    assert silent == asker.prompt_text("what barks", Mode.VOS, 2.0, 0.0, 4, 0)
    assert "hear" not in silent
    assert "1 seconds of audio" in heard


def test_a_folder_of_ones_own_needs_words_for_boxes_only_where_they_are_asked_for(tmp_path: Path) -> None:
    for name in ("system1_vos", "system1_avs"):
        (tmp_path / f"{name}.txt").write_text("{instruction}")
    own = System1(cast(Engine, None), load_profile("shapeworld").system1.model_copy(update={"prompts": str(tmp_path)}))
    assert own.prompt_text("the cup", Mode.AVS, 12.0, 3.0, 4, 0) == "the cup"
    with pytest.raises(Misconfigured, match=r"has no system1_aid\.txt"):
        own.prompt_text("the cup", Mode.AID, 12.0, 3.0, 4, 0)
