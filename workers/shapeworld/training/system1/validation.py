"""Validation: answers about clips of the validation range, generated in batches and read as the pipeline reads them."""

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from workers.pipeline.parsing import System1Answer, parse_system1
from workers.shapeworld.training import layers, thinkers
from workers.shapeworld.training.system1 import pictures, sightings
from workers.shapeworld.training.system1.scenes import Sample, Staged, complete
from workers.shapeworld.training.system1.tokens import Encoder
from workers.shapeworld.training.trainee import Figures
from workers.shapeworld.world.levels import EASY, MEDIUM, Level
from workers.shapeworld.world.make import make_validation_scene
from workers.shapeworld.world.observe import observe
from workers.shapeworld.world.queries import Kind
from workers.shapeworld.world.sound import audio
from workers.shapeworld.world.splits import SEEDS, Split

_SECONDS = sightings.FRAME_COUNT / sightings.NOMINAL_FPS
#: As many new tokens as the profile allows.
MAX_NEW_TOKENS = 200
_KEYFRAMES = 4


@dataclass(frozen=True, slots=True)
class Case:
    """A validation clip with its question and what is right."""

    kind: Kind
    sample: Sample
    pieces: pictures.Pieces


def make_case(seed: int, kind: Kind, level: Level) -> Case:
    example = make_validation_scene(seed, kind, level)
    staged = Staged(example.scene, observe(example.scene), kind)
    return Case(
        kind, complete(staged, example.question), pictures.show(example.scene, np.arange(sightings.MOMENT_COUNT))
    )


class Validation:
    """`each` clips of each kind, of the levels in turn."""

    def __init__(self, encoder: Encoder, each: int = 5, levels: tuple[Level, ...] = (MEDIUM, EASY)) -> None:
        self._encoder, self._each, self._levels = encoder, each, levels

    @cached_property
    def _cases(self) -> list[Case]:
        first = SEEDS[Split.VALIDATION].start
        return [
            make_case(first + n, kind, self._levels[n % len(self._levels)]) for kind in Kind for n in range(self._each)
        ]

    def judge(self, thinker: Any) -> Figures:
        """Shares of well-formed answers, right descriptions by kind, and keyframes that show the target."""
        right, well_formed, visible = defaultdict[str, list[float]](list), list[float](), list[float]()
        for case, text in zip(self._cases, self._answers(thinker), strict=True):
            answer = parse_system1(text, _SECONDS, _KEYFRAMES)
            question = case.sample.question
            well_formed.append(float(text.count("</answer>") == 1 and not answer.warnings))
            said = {moment.description for moment in answer.moments}
            good = said == {question.description} if question.targets else answer.says_none
            right[case.kind].append(float(good))
            if question.targets:
                visible += _visible(case, answer)
        figures = {f"{kind}": float(np.mean(found)) for kind, found in right.items()}
        every = [value for found in right.values() for value in found]
        return figures | {
            "all": float(np.mean(every)),
            "format": float(np.mean(well_formed)),
            "keyframes_visible": float(np.mean(visible or [0.0])),
        }

    def _answers(self, thinker: Any) -> list[str]:
        groups = defaultdict[tuple[Any, ...], list[int]](list)
        for index, case in enumerate(self._cases):
            groups[sightings.size_px(case.sample.staged.scene), case.sample.heard is not None].append(index)
        answers: dict[int, str] = {}
        for indices in groups.values():
            texts = generate(thinker, self._encoder, [self._cases[index] for index in indices])
            answers |= dict(zip(indices, texts, strict=True))
        return [answers[index] for index in range(len(self._cases))]


def _visible(case: Case, answer: System1Answer) -> list[float]:
    """Of each moment whether its first frame shows a target."""
    times = sightings.sampled_times(case.sample.staged.scene)
    share = sightings.shown(case.sample.staged.seen, times)[list(case.sample.question.targets)].max(0)
    frames = [min(int(m.start_s * sightings.NOMINAL_FPS), len(times) - 1) for m in answer.moments]
    return [float(share[frame] >= 0.2) for frame in frames]


@torch.inference_mode()
def generate(thinker: Any, encoder: Encoder, cases: list[Case]) -> list[str]:
    """Greedy completions about clips of one size, all with sound or none."""
    pieces = pictures.join([case.pieces for case in cases])
    _, rows, columns = pieces.there.shape
    inputs: dict[str, torch.Tensor] = {}
    audio_tokens = [0] * len(cases)
    if cases[0].sample.heard:
        features, heard = encoder.features([audio(case.sample.staged.scene) for case in cases])
        inputs = {"input_features": features, "feature_attention_mask": heard}
        audio_tokens = ((((heard.sum(1) - 1) // 2 + 1) - 2) // 2 + 1).tolist()
    video_tokens = rows * columns * sightings.MOMENT_COUNT
    prompts = [
        encoder.prompt(case.sample.question.text, video_tokens, count)
        for case, count in zip(cases, audio_tokens, strict=True)
    ]
    length = max(map(len, prompts))
    pad = encoder.tokenizer.pad_token_id
    grid = [sightings.MOMENT_COUNT, rows * layers.MERGE, columns * layers.MERGE]
    patches = thinkers.pack_patches(torch.from_numpy(pieces.frames), thinker.config.vision_config.patch_size)
    inputs |= {
        "input_ids": torch.tensor([[pad] * (length - len(prompt)) + prompt for prompt in prompts]),
        "attention_mask": torch.tensor([[0] * (length - len(prompt)) + [1] * len(prompt) for prompt in prompts]),
        "pixel_values_videos": patches.flatten(0, 1),
        "video_grid_thw": torch.tensor([grid] * len(cases)),
        "video_second_per_grid": torch.full((len(cases),), _SECONDS / sightings.MOMENT_COUNT),
    }
    there = {name: value.to(thinker.device) for name, value in inputs.items()}
    output = thinker.generate(**there, max_new_tokens=MAX_NEW_TOKENS, do_sample=False)
    return [str(text) for text in encoder.tokenizer.batch_decode(output[:, length:], skip_special_tokens=True)]
