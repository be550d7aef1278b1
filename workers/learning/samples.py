"""Samples: a drawn item as System 1 is shown it, prepared once for its whole group and ahead of the model.

What chance decides about a draw (how many frames are shown, the example's timestamps) depends on the training seed and
the number of the draw alone: a training that goes on, or that has more processes, prepares the same samples.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from backend.domain.errors import BadInput
from backend.domain.frames import Sampling, sample_uniformly
from backend.domain.runs import Mode
from backend.profiles import System1Profile
from workers.learning.items import ItemSource, TrainingItem, Truth
from workers.pipeline.engines.presenting import load_processor, present
from workers.pipeline.system1 import Asker

log = logging.getLogger(__name__)

#: So many other draws are tried in place of one whose clip can't be used.
_REPLACEMENTS = 8


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One draw. `prompt_ids` and `media`, the model's tensors by name, are those of a batch of one; `frames` (n, H, W,
    3) uint8 RGB at source resolution, with the truth by position among them."""

    draw: int
    item: str
    kind: str
    instruction: str
    description: str | None
    has_target: bool
    prompt_ids: torch.Tensor
    media: Mapping[str, torch.Tensor]
    frames: torch.Tensor
    nominal_fps: float
    truth: Truth
    mode: Mode = Mode.VOS

    @property
    def sampling(self) -> Sampling:
        """Of the clip resampled to the frames that are shown: their positions and the model's seconds."""
        return Sampling(tuple(range(len(self.frames))), self.nominal_fps)


class Preparer:
    """Makes samples of items; knows the model's processor, but no model."""

    def __init__(self, profile: System1Profile, *, frames_min: int, frames_max: int, keyframes: int, seed: int) -> None:
        self._profile, self._keyframes, self._seed = profile, keyframes, seed
        most = min(frames_max, profile.max_frames)
        self._counts = range(min(frames_min, most), most + 1)
        self._processor: Any = None

    def as_at_inference(self) -> "Preparer":
        """One that shows as many frames as the product does."""
        most = self._profile.max_frames
        return Preparer(self._profile, frames_min=most, frames_max=most, keyframes=self._keyframes, seed=0)

    @property
    def processor(self) -> Any:
        """Loaded where it is first needed: in the process that prepares."""
        if self._processor is None:
            self._processor = load_processor(self._profile.weights)
        return self._processor

    def draw(self, source: ItemSource, number: int) -> Sample:
        """The sample of a draw: 8 to 24 frames, uniformly spaced (appendix B), and timestamps by chance. A clip that
        can't be used gives its place to another of the source; raises its `BadInput` if that fails again and again."""
        rng = np.random.default_rng([self._seed, number])
        count, words = int(rng.choice(self._counts)), int(rng.integers(2**31))
        instead = [number, *(int(n) for n in rng.integers(2**31, 2**32, _REPLACEMENTS))]
        for attempt, other in enumerate(instead):
            try:
                return self.prepare(source.draw(other), draw=number, frame_count=count, words=words)
            except BadInput as error:
                if attempt == _REPLACEMENTS:
                    raise
                log.warning("draw %d of %s can't be used, another takes its place: %s", other, source.name, error)
        raise AssertionError("unreachable")

    def prepare(self, item: TrainingItem, *, draw: int = 0, frame_count: int | None = None, words: int = 0) -> Sample:
        """The item with that many frames (default: as many as at inference), in mode `aid` with its first one. `words`:
        seed of what is drawn in the prompt."""
        profile = self._profile
        shown_frames = 1 if item.mode is Mode.AID else frame_count or profile.max_frames
        sampling = sample_uniformly(item.footage.frame_count, shown_frames, profile.nominal_fps)
        shown = item.footage.show(sampling.frame_indices)
        rate_hz = int(self.processor.feature_extractor.sampling_rate)
        audio = None if item.mode is Mode.VOS else item.footage.sound(rate_hz, profile.audio_max_s)
        prompt = Asker(profile).prompt(
            shown.images, sampling.nominal_duration_s, audio, rate_hz, item.instruction, item.mode,
            keyframes=self._keyframes, seed=words,
        )  # fmt: skip
        pixels = {"min_pixels": profile.min_pixels, "max_pixels": profile.max_pixels}
        batch = dict(present(self.processor, [prompt], fps=profile.nominal_fps, **pixels))
        ids = batch.pop("input_ids")[0]
        media = {name: torch.as_tensor(value) for name, value in batch.items() if name != "attention_mask"}
        return Sample(
            draw, item.name, item.kind, item.instruction, item.description, item.has_target, ids, media,
            torch.from_numpy(np.ascontiguousarray(shown.images)), profile.nominal_fps, shown.truth, item.mode,
        )  # fmt: skip


class _Rounds(Dataset[list[Sample]]):
    """By round: the samples of its draws."""

    def __init__(self, preparer: Preparer, source: ItemSource, rounds: Sequence[Sequence[int]]) -> None:
        self._preparer, self._source, self._rounds = preparer, source, rounds

    def __len__(self) -> int:
        return len(self._rounds)

    def __getitem__(self, position: int) -> list[Sample]:
        return [self._preparer.draw(self._source, number) for number in self._rounds[position]]


def ahead(
    preparer: Preparer, source: ItemSource, rounds: Sequence[Sequence[int]], loaders: int
) -> Iterator[list[Sample]]:
    """The samples of those rounds of draws, in order; `loaders` processes are two rounds ahead of who asks."""
    data = _Rounds(preparer, source, rounds)
    # A generator of its own: the loader's seed must not be drawn from the random numbers that training goes on with.
    return iter(
        DataLoader(
            data, batch_size=None, num_workers=loaders, prefetch_factor=2 if loaders else None,
            generator=torch.Generator(),
        )
    )  # fmt: skip


def collate(samples: Sequence[Sample], pad_token_id: int) -> dict[str, torch.Tensor]:
    """The prompts as one batch, padded on the left, with the media of all in order."""
    length = max(len(sample.prompt_ids) for sample in samples)
    ids = torch.full((len(samples), length), pad_token_id)
    mask = torch.zeros((len(samples), length), dtype=torch.long)
    for row, sample in enumerate(samples):
        ids[row, length - len(sample.prompt_ids) :] = sample.prompt_ids
        mask[row, length - len(sample.prompt_ids) :] = 1
    return {"input_ids": ids, "attention_mask": mask} | join_media(samples)


def join_media(samples: Sequence[Sample], without: Sequence[str] = ()) -> dict[str, torch.Tensor]:
    """The media of the samples, one after the other; sound is padded to the longest. `without`: tensors left out."""
    joined = {}
    for name in dict.fromkeys(name for sample in samples for name in sample.media if name not in without):
        parts = [sample.media[name] for sample in samples if name in sample.media]
        if name in ("input_features", "feature_attention_mask"):
            longest = max(part.shape[-1] for part in parts)
            parts = [torch.nn.functional.pad(part, (0, longest - part.shape[-1])) for part in parts]
        joined[name] = torch.cat(parts)
    return joined
