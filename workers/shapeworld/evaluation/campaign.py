"""Campaigns: many clips scored by several processes, written down one by one, so that a long one can be gone on
with.
"""

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from enum import StrEnum
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

from backend.domain.errors import BadInput
from backend.profiles import ModelProfile
from backend.settings import PipelineSettings
from workers.pipeline.omni import OmniPipeline, load_pipeline
from workers.shapeworld.evaluation.ledger import Ledger
from workers.shapeworld.evaluation.score import score
from workers.shapeworld.evaluation.scores import Case, ClipScore, Part
from workers.shapeworld.world.levels import LEVELS
from workers.shapeworld.world.queries import Kind
from workers.shapeworld.world.splits import SEEDS, Split

_Member = TypeVar("_Member", bound=StrEnum)

#: Of a process of the pool.
_pipeline: OmniPipeline | None = None
_parent: int | None = None


#: Clips of each kind, where no seeds are given.
_CLIPS_A_KIND = 300


def seeds(text: str | None, split: str) -> range:
    """The seeds A:B, or else the split's first 300. Raises `BadInput`."""
    if split not in (Split.TEST, Split.UNSEEN, Split.VALIDATION):
        raise BadInput(f"there is no split {split!r} to measure on; there are: test, unseen, validation")
    if text is None:
        return SEEDS[Split(split)][:_CLIPS_A_KIND]
    first, _, end = text.partition(":")
    if not (first.isdigit() and end.isdigit() and int(first) < int(end)):
        raise BadInput(f"{text!r} is no range of seeds; write A:B, as 0:10")
    return range(int(first), int(end))


def kinds(names: list[str] | None) -> tuple[Kind, ...]:
    """The kinds of these names, all of them if there are none. Raises `BadInput`."""
    return _named(Kind, names)


def parts(names: list[str] | None) -> tuple[Part, ...]:
    """The parts of these names, all of them if there are none. Raises `BadInput`."""
    return _named(Part, names)


def _named(members: type[_Member], names: list[str] | None) -> tuple[_Member, ...]:
    try:
        return tuple(members(name) for name in names or members)
    except ValueError as error:
        raise BadInput(f"{error}; there are: {', '.join(members)}") from error


def levels(names: list[str] | None) -> tuple[str, ...]:
    """All, if none are given. Raises `BadInput` for a name that is none."""
    for name in names or ():
        if name not in LEVELS:
            raise BadInput(f"there is no level {name!r}; there are: {', '.join(LEVELS)}")
    return tuple(names or LEVELS)


def cases(
    seeds: Iterable[int], kinds: Iterable[Kind] = tuple(Kind), levels: Sequence[str] = tuple(LEVELS)
) -> list[Case]:
    """One clip of every kind for each seed; its level goes round with the seed, so that as many seeds in a row as there
    are levels have one clip of each."""
    return [Case(seed, kind, levels[seed % len(levels)]) for seed in seeds for kind in kinds]


def run(
    profile: ModelProfile, settings: PipelineSettings, wanted: list[Case], *, parts: tuple[Part, ...] = tuple(Part),
    jobs: int = 1, ledger: Path | None = None, on_clip: Callable[[int], None] = lambda _: None,
    digest: str | None = None, known: Mapping[Case, ClipScore] | None = None,
) -> list[ClipScore]:  # fmt: skip
    """The scores of all cases, in order; `jobs` processes, each with models of its own. `digest`: of the models, where
    the profile's own is not theirs, because it says where on this machine they were fetched to. `known`: scores of
    models that carry as these (`workers.evaluation.alike`)."""
    book = Ledger(ledger, digest or profile.digest, parts)
    missing = [case for case in wanted if case not in book.scores]
    beside = [known.get(case) if known else None for case in missing]
    for found in _measure(profile, settings, missing, beside, parts, jobs):
        book.add(found)
        on_clip(len(book.scores))
    return [book.scores[case] for case in wanted]


def _measure(
    profile: ModelProfile, settings: PipelineSettings, missing: list[Case], beside: list[ClipScore | None],
    parts: tuple[Part, ...], jobs: int,
) -> Iterator[ClipScore]:  # fmt: skip
    if missing:
        # Spawned: torch's threads don't survive a fork.
        with ProcessPoolExecutor(jobs, get_context("spawn"), _load, (profile, settings)) as pool:
            yield from pool.map(_score, missing, beside, repeat(parts))


def _load(profile: ModelProfile, settings: PipelineSettings) -> None:
    global _pipeline, _parent
    _parent = os.getppid()
    _pipeline = load_pipeline(profile, settings, torch_threads=1 if profile.device == "cpu" else None)


def _score(case: Case, known: ClipScore | None, parts: tuple[Part, ...]) -> ClipScore:
    assert _pipeline is not None
    if os.getppid() != _parent:
        # Who asked was killed; what it had handed out would be measured for nobody, beside whatever comes next.
        os._exit(1)
    with tempfile.TemporaryDirectory(prefix="premask-evaluate-") as folder:
        return score(_pipeline, case, Path(folder), parts, known)
