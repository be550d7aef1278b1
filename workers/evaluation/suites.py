"""Suites: what models are measured on before one of them takes another's place, with a score for every item.

A suite is anything that can score a model. `ItemSuite` does so for instructions on videos whose truth is known:
`holdout` makes one of a data set's items. The proving ground's is in `workers.shapeworld.evaluation.suite`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Protocol

from backend.domain import masks as rle
from backend.domain.annotation import Mask, VideoProbe
from backend.domain.datasets import DatasetItem
from backend.domain.runs import Mode
from backend.profiles import ModelProfile
from backend.settings import PipelineSettings
from workers.evaluation.alike import Prompted, answer, carries_alike
from workers.evaluation.gate import ItemScore, Role, SuiteScores
from workers.evaluation.metrics import similarity_on
from workers.pipeline.omni import OmniPipeline, load_pipeline

#: Told how many items are done.
Listener = Callable[[int], None]


@dataclass(frozen=True)
class Model:
    """A model version to be measured. `profile`: its weights lie on this machine; `digest`: its identity."""

    digest: str
    profile: ModelProfile
    settings: PipelineSettings

    @cached_property
    def pipeline(self) -> OmniPipeline:
        """Loaded when first asked for."""
        return load_pipeline(self.profile, self.settings)

    def unload(self) -> None:
        """Forget the pipeline, if there is one."""
        self.__dict__.pop("pipeline", None)

    def carries_as(self, other: "Model") -> bool:
        """See `alike.carries_alike`."""
        return self.settings == other.settings and carries_alike(self.profile, other.profile, self.settings)


class Suite(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def role(self) -> Role: ...

    def score(self, model: Model, on_item: Listener = ..., beside: Model | None = ...) -> tuple[ItemScore, ...]:
        """One score an item, the same items for every model. `beside`: a model that this suite has scored, and that
        carries as this one: what both lead to the same boxes isn't carried again."""


def measure(
    suites: Sequence[Suite], champion: Model, candidate: Model, on_item: Callable[[str, int], None] = lambda *_: None
) -> list[SuiteScores]:
    """Both models on all suites, one model after the other, so that one at a time is in memory. `on_item` is told what
    is measured and how many of its items are done."""
    of_champion = [suite.score(champion, partial(on_item, f"champion on {suite.name}")) for suite in suites]
    champion.unload()
    beside = champion if candidate.carries_as(champion) else None
    of_candidate = [suite.score(candidate, partial(on_item, f"candidate on {suite.name}"), beside) for suite in suites]
    candidate.unload()
    return [
        SuiteScores(suite.name, suite.role, before, after)
        for suite, before, after in zip(suites, of_champion, of_candidate, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class Item:
    """An instruction on a video, and what is true of it.

    `truth`: the target's true mask by frame index, none where it is not seen; `frames`: of which frames that is known,
    None: of all. `open` makes the video's file for as long as it is looked at; `probe` spares probing it.
    """

    item_id: str
    source_id: str
    group: str
    instruction: str
    mode: Mode
    truth: Mapping[int, Mask]
    frames: tuple[int, ...] | None
    open: Callable[[], AbstractContextManager[Path]]
    probe: VideoProbe | None = None


@dataclass(frozen=True, slots=True)
class ItemSuite:
    """J&F of the union of a model's tracks, over the frames whose truth is known."""

    name: str
    role: Role
    items: tuple[Item, ...]
    #: What it found, by model version, in the order of the items.
    _scored: dict[str, list["_Scored"]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def score(
        self, model: Model, on_item: Listener = lambda _: None, beside: Model | None = None
    ) -> tuple[ItemScore, ...]:
        known = [None] * len(self.items) if beside is None else self._scored[beside.digest]
        found: list[_Scored] = []
        for item, before in zip(self.items, known, strict=True):
            found.append(_score(model, item, before))
            on_item(len(found))
        self._scored[model.digest] = found
        return tuple(one.score for one in found)


@dataclass(frozen=True, slots=True)
class _Scored:
    score: ItemScore
    prompted: Prompted | None


def _score(model: Model, item: Item, known: _Scored | None) -> _Scored:
    pipeline = model.pipeline  # loading it is no part of an answer's time
    with item.open() as path:
        found = answer(
            pipeline, path, item.instruction, item.mode, seed=model.settings.seed, probe=item.probe,
            known=known.prompted if known else None,
        )  # fmt: skip
    if found.annotation is None:
        assert known is not None
        jf = known.score.jf
    else:
        frames = range(found.annotation.probe.frame_count) if item.frames is None else item.frames
        jf = similarity_on([track.masks for track in found.annotation.tracks], item.truth, frames).jf
    score = ItemScore(item.item_id, item.source_id, item.group, jf, found.well_formed, found.seconds)
    return _Scored(score, found.prompted)


def holdout(
    name: str, role: Role, items: Iterable[DatasetItem], fetch: Callable[[DatasetItem], AbstractContextManager[Path]]
) -> ItemSuite:
    """A suite of held-out items of a data set, grouped by mode.

    Only frames whose masks people saw are scored: those between are a segmenter's, most often the champion's own, and
    would speak for it. Items without such a frame are left out.
    """
    return ItemSuite(name, role, tuple(_held_out(item, fetch) for item in items if item.mask_frames))


def _held_out(item: DatasetItem, fetch: Callable[[DatasetItem], AbstractContextManager[Path]]) -> Item:
    truth = {}
    for frame_index in item.mask_frames:
        masks = [mask for one in item.objects if (mask := one.masks.get(frame_index)) is not None]
        if masks:
            truth[frame_index] = rle.union(masks)
    return Item(
        item.item_id, item.source_id, item.mode.value, item.instruction, item.mode, truth, item.mask_frames,
        lambda: fetch(item), item.probe,
    )  # fmt: skip
