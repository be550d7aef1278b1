"""Which items a data set takes: caps, mix, replay; a function of items and seed alone."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from backend.domain.datasets import DatasetItem, Split
from backend.domain.errors import BadInput
from backend.domain.runs import Mode
from backend.services.selection import FreezeQuery, select
from tests.factories.dataset_items import item

PARENT = "0" * 64


def made(number: int, **more: Any) -> DatasetItem:
    """An item of its own; `annotator` and `source` by name."""
    annotator, source = more.pop("annotator", "1"), more.pop("source", number)
    said = replace(item().provenance, annotator=annotator, target="label_studio:5")
    return item(instruction=f"thing {number}", media_sha256=f"{source:064x}", provenance=said, **more)


def query(**more: Any) -> FreezeQuery:
    return FreezeQuery(projects=("cups",), **more)


def picked(candidates: Sequence[DatasetItem], older: Sequence[DatasetItem] = (), **more: Any) -> list[DatasetItem]:
    return select(candidates, older, query(**more)).items


@settings(max_examples=25, deadline=None)
@given(
    st.permutations(range(20)), st.none() | st.integers(1, 5), st.none() | st.integers(1, 5),
    st.none() | st.floats(0.3, 0.5), st.integers(0, 3), st.floats(0, 0.9),
)  # fmt: skip
def test_the_order_never_matters_and_all_bounds_hold(
    order: list[int], per_annotator: int | None, per_source: int | None, avs: float | None, seed: int, replay: float
) -> None:
    def of(number: int) -> DatasetItem:
        return made(
            number, annotator=str(number % 4), source=number % 7, mode=Mode.AVS if number % 3 == 0 else Mode.VOS,
            split=Split.HOLDOUT if number % 7 == 0 else Split.TRAIN, fresh=number % 5 != 0,
        )  # fmt: skip

    older = [replace(of(number), fresh=False) for number in range(100, 120) if number % 7]
    asked: dict[str, Any] = {
        "max_per_annotator": per_annotator, "max_per_source": per_source, "avs_share": avs, "seed": seed,
        "parent": PARENT, "replay_share": replay,
    }  # fmt: skip
    try:
        found = picked([of(number) for number in order], older, **asked)
    except BadInput:
        reject()  # Caps have left too little for the mix.
    assert {one.item_id for one in found} == {
        one.item_id for one in picked([of(number) for number in range(20)], older[::-1], **asked)
    }
    assert len({one.question for one in found}) == len(found)
    for split in (Split.TRAIN, Split.HOLDOUT):
        part = [one for one in found if one.split is split]
        for names, most in (
            (Counter(one.provenance.annotator for one in part), per_annotator),
            (Counter(one.source_id for one in part), per_source),
        ):
            assert most is None or max(names.values(), default=0) <= most
    fresh = [one for one in found if one.split is Split.TRAIN and one.fresh]
    replayed = [one for one in found if one.split is Split.TRAIN and not one.fresh]
    assert len(replayed) <= round(len(fresh) * replay / (1 - replay))
    if avs is not None and fresh:
        assert abs(sum(one.mode is Mode.AVS for one in fresh) - avs * len(fresh)) <= 1


def test_a_cap_holds_for_each_person_and_each_video() -> None:
    candidates = [made(n, annotator=str(n % 2)) for n in range(10)]
    assert Counter(one.provenance.annotator for one in picked(candidates, max_per_annotator=3)) == {"0": 3, "1": 3}
    candidates = [made(n, source=n % 2) for n in range(10)]
    assert sorted(Counter(one.source_id for one in picked(candidates, max_per_source=2)).values()) == [2, 2]
    out = select(candidates, [], query(max_per_source=2)).left_out
    assert out == {"capped": 6}


def test_another_seed_draws_others() -> None:
    candidates = [made(n) for n in range(20)]
    drawn = [frozenset(one.item_id for one in picked(candidates, max_per_annotator=5, seed=seed)) for seed in range(3)]
    assert len(set(drawn)) == 3


@pytest.mark.parametrize(
    ("share", "expected"), [(0.5, (4, 4)), (0.2, (2, 8)), (1.0, (4, 0)), (0.0, (0, 8)), (None, (4, 8))]
)
def test_the_mix_takes_as_many_as_it_can(share: float | None, expected: tuple[int, int]) -> None:
    candidates = [made(n, mode=Mode.AVS if n < 4 else Mode.VOS) for n in range(12)]
    found = Counter(one.mode for one in picked(candidates, avs_share=share))
    assert (found[Mode.AVS], found[Mode.VOS]) == expected


def test_a_mix_that_can_not_be_had_is_told() -> None:
    with pytest.raises(BadInput, match=r"0\.3 AVS can't be had: of 3 train items none is avs"):
        picked([made(n) for n in range(3)], avs_share=0.3)


def test_replay_keeps_its_share_and_its_mix() -> None:
    new = [made(n, mode=Mode.AVS if n % 2 else Mode.VOS) for n in range(12)]
    older = [made(n, mode=Mode.AVS if n % 2 else Mode.VOS, fresh=False) for n in range(100, 140)]
    found = picked(new, older, parent=PARENT, replay_share=0.25, avs_share=0.5)
    assert Counter((one.fresh, one.mode) for one in found) == {
        (True, Mode.VOS): 6, (True, Mode.AVS): 6, (False, Mode.VOS): 2, (False, Mode.AVS): 2,
    }  # fmt: skip


def test_an_older_answer_to_a_question_that_is_answered_anew_is_not_replayed() -> None:
    new = made(1)
    old = replace(new, objects=(), fresh=False)
    others = [made(n, fresh=False) for n in (2, 3)]
    found = picked([new], [old, *others], parent=PARENT, replay_share=0.9)
    assert {one.item_id for one in found} == {one.item_id for one in (new, *others)}


def test_neither_side_and_empty_ones_are_left_out() -> None:
    empty = made(1, objects=(), mask_frames=(), propagated_frames=(), box_frames=())
    neither = made(2, split=Split.NEITHER)
    assert select([empty, neither, made(3)], [], query(with_empty=False)).left_out == {
        "empty": 1, "resembles both sides": 1,
    }  # fmt: skip
    assert len(picked([empty, neither, made(3)])) == 2


def test_instructions_for_boxes_alone_count_as_heard() -> None:
    candidates = [made(n, mode=(Mode.VOS, Mode.AVS, Mode.AID)[n % 3]) for n in range(12)]
    found = Counter(item.mode for item in picked(candidates, avs_share=0.5))
    assert (found[Mode.VOS], found[Mode.AVS] + found[Mode.AID]) == (4, 4)
    assert len(picked(candidates)) == 12


def test_a_query_is_read_back_and_knows_no_order_of_projects() -> None:
    one = FreezeQuery(projects=("b", "a", "b"), parent=PARENT, replay_share=0.2)
    assert one.projects == ("a", "b")
    assert FreezeQuery.model_validate(one.model_dump(mode="json")) == one
    for wrong in ({"projects": ()}, {"projects": ("a",), "replay_share": 0.5}, {"projects": ("a",), "replay_share": 1}):
        with pytest.raises(ValidationError):
            FreezeQuery.model_validate(wrong)
