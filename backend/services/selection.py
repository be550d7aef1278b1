"""Which of the reviewed items go into a data set: the query, and its answer, a pure function of items and seed.

What is drawn is drawn by a hash of seed and item, so that neither the order of rows nor the day matters.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from backend.domain.datasets import DatasetItem, Split
from backend.domain.errors import BadInput
from backend.domain.runs import Mode


class FreezeQuery(BaseModel):
    """What a data set is to hold. Written whole into `dataset.json`.

    Caps and the mix hold for each split by itself. `replay_share`: of the training items so many are drawn from those
    that `parent`, and what it goes back to, trained on; the rest is new since then. Without a parent everything is new.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    projects: Annotated[tuple[str, ...], AfterValidator(lambda names: tuple(sorted(set(names))))] = Field(min_length=1)
    reviewed_until: AwareDatetime | None = None
    with_empty: bool = Field(True, description="keep items of which people say that nothing fits")
    max_per_annotator: int | None = Field(None, ge=1)
    max_per_source: int | None = Field(None, ge=1)
    avs_share: float | None = Field(None, ge=0, le=1, description="with sound, modes avs and aid; None: as they come")
    parent: str | None = Field(None, pattern="^[0-9a-f]{64}$")
    replay_share: float = Field(0.0, ge=0, lt=1)
    seed: int = 0

    @model_validator(mode="after")
    def _replay_needs_a_parent(self) -> "FreezeQuery":
        if self.replay_share and self.parent is None:
            raise ValueError("replay_share needs a parent to draw from")
        return self


@dataclass(frozen=True, slots=True)
class Selection:
    """`items` in no order; `left_out`: how many for which reason."""

    items: list[DatasetItem]
    left_out: Counter[str] = field(default_factory=Counter)


def select(candidates: Sequence[DatasetItem], older: Sequence[DatasetItem], query: FreezeQuery) -> Selection:
    """The items of the data set.

    `candidates`: one for each question, `fresh` where no ancestor has it; `older`: what ancestors trained on and still
    stands. Raises `BadInput` where the mix that was asked for can't be made at all.
    """
    out: Counter[str] = Counter()
    kept = [item for item in candidates if _wanted(item, query, out)]
    train = [item for item in kept if item.split is Split.TRAIN]
    fresh = [item for item in train if item.fresh]
    caps = _Caps(query)
    new = _mixed(_capped(_drawn(fresh, query.seed), caps, out), query.avs_share, out)
    asked = {item.question for item in fresh}
    pool = {item.question: replace(item, fresh=False) for item in [*older, *(one for one in train if not one.fresh)]}
    replayed = _replayed([item for question, item in pool.items() if question not in asked], len(new), query, caps, out)
    held_out = [item for item in kept if item.split is Split.HOLDOUT]
    tests = _mixed(_capped(_drawn(held_out, query.seed), _Caps(query), out), query.avs_share, out)
    return Selection([*new, *replayed, *tests], out)


def _wanted(item: DatasetItem, query: FreezeQuery, out: Counter[str]) -> bool:
    if not query.with_empty and not item.objects:
        out["empty"] += 1
    elif item.split is Split.NEITHER:
        out["resembles both sides"] += 1
    else:
        return True
    return False


def _drawn(items: Iterable[DatasetItem], seed: int) -> list[DatasetItem]:
    """In an order that only seed and items decide."""
    return sorted(items, key=lambda item: hashlib.sha256(f"{seed}:{item.item_id}".encode()).digest())


class _Caps:
    """How much of what each annotator and each source video has given so far."""

    def __init__(self, query: FreezeQuery) -> None:
        self._query = query
        self._given: Counter[tuple[str, str]] = Counter()

    def take(self, item: DatasetItem) -> bool:
        """Whether there is room for the item, which is then taken. An import has no annotator."""
        annotator = item.provenance.annotator
        limits = {("source", item.source_id): self._query.max_per_source}
        if annotator is not None:
            limits["annotator", f"{item.provenance.target}/{annotator}"] = self._query.max_per_annotator
        if any(limit is not None and self._given[who] >= limit for who, limit in limits.items()):
            return False
        self._given.update(list(limits))
        return True


def _capped(items: Iterable[DatasetItem], caps: _Caps, out: Counter[str]) -> list[DatasetItem]:
    kept = []
    for item in items:
        if caps.take(item):
            kept.append(item)
        else:
            out["capped"] += 1
    return kept


def _mixed(items: list[DatasetItem], avs_share: float | None, out: Counter[str]) -> list[DatasetItem]:
    """As many as can be had with that share of AVS."""
    if avs_share is None or not items:
        return items
    seen, heard = _by_sound(items)
    total = min(
        len(heard) / avs_share if avs_share > 0 else float("inf"),
        len(seen) / (1 - avs_share) if avs_share < 1 else float("inf"),
    )
    if total < 1:
        lacking = Mode.AVS if not heard else Mode.VOS
        raise BadInput(
            f"a share of {avs_share:g} AVS can't be had: of {len(items)} {items[0].split} items none is {lacking};"
            " ask without a share, or have some reviewed",
            code="no_such_mix",
        )
    # A product like 10 · 0.3 falls just short of a whole number.
    kept = [*heard[: int(total * avs_share + 1e-9)], *seen[: int(total * (1 - avs_share) + 1e-9)]]
    out["mix"] += len(items) - len(kept)
    return kept


def _replayed(
    pool: list[DatasetItem], new: int, query: FreezeQuery, caps: _Caps, out: Counter[str]
) -> list[DatasetItem]:
    """So many of the pool that they are the share asked for of new and old together, fewer where there are fewer."""
    wanted = round(new * query.replay_share / (1 - query.replay_share))
    if not wanted or not pool:
        return []
    kept = _capped(_drawn(pool, query.seed), caps, out)
    if query.avs_share is None:
        return kept[:wanted]
    seen, heard = _by_sound(kept)
    heard = heard[: round(wanted * query.avs_share)]
    return [*heard, *seen[: wanted - len(heard)]]


def _by_sound(items: Sequence[DatasetItem]) -> tuple[list[DatasetItem], list[DatasetItem]]:
    """Those asked by what is seen, and those asked by what is heard as well."""
    seen = [item for item in items if item.mode is Mode.VOS]
    return seen, [item for item in items if item.mode is not Mode.VOS]
