"""Items of a data set: to a row and back, through JSON and through Parquet; what contradicts itself is refused."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings

from backend.domain.datasets import DatasetItem, Split, digest_of, in_order
from backend.domain.masks import encode_mask
from backend.services.manifests import read_manifest, write_manifest
from tests.factories.dataset_items import HEIGHT, WIDTH, box, item, items, mask_at


@settings(deadline=None)
@given(items())
def test_a_row_is_json_and_the_item_comes_back(made: DatasetItem) -> None:
    row = json.loads(json.dumps(made.to_row()))
    assert DatasetItem.from_row(row) == made
    assert DatasetItem.from_row({**row, "item_id": made.item_id, "more": 1}).item_id == made.item_id


@settings(max_examples=30, deadline=None)
@given(items())
def test_a_row_survives_parquet(made: DatasetItem) -> None:
    assert list(read_manifest(write_manifest([made]))) == [made]


@settings(deadline=None)
@given(items())
def test_the_id_is_of_the_truth_alone(made: DatasetItem) -> None:
    elsewhere = replace(
        made, split=Split.HOLDOUT, fresh=not made.fresh, media_key="other",
        provenance=replace(made.provenance, annotator="7", project="other"),
    )  # fmt: skip
    assert elsewhere.item_id == made.item_id
    others = [replace(made, instruction=made.instruction + "."), replace(made, media_sha256="f" * 64)]
    if made.objects:
        others.append(replace(made, objects=made.objects[1:]))
        first = replace(made.objects[0], label=made.objects[0].label + "x")
        others.append(replace(made, objects=(first, *made.objects[1:])))
    if not any(one.masks for one in made.objects):
        others += [replace(made, **{name: ()}) for name in ("mask_frames", "propagated_frames") if getattr(made, name)]
    assert made.item_id not in {other.item_id for other in others}


def test_a_data_sets_digest_knows_no_order_but_everything_else() -> None:
    one, other = item(), item(instruction="the other cup")
    digest = digest_of([one, other], {"seed": 0})
    assert digest == digest_of([other, one], {"seed": 0})
    assert in_order([other, one]) == in_order([one, other])
    differing = [
        digest_of([one], {"seed": 0}),
        digest_of([one, other], {"seed": 1}),
        digest_of([one, replace(other, split=Split.HOLDOUT)], {"seed": 0}),
        digest_of([one, replace(other, fresh=False)], {"seed": 0}),
    ]
    assert len({digest, *differing}) == 5


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"pts": (1, 2)}, "2 time stamps"),
        ({"box_frames": (1, 0)}, "out of order"),
        ({"box_frames": (0, 99)}, "of a video of"),
        ({"mask_frames": (0,)}, "nothing is known"),
        ({"box_frames": ()}, "nothing is known"),
        ({"propagated_frames": (2,)}, "both among"),
    ],
)
def test_what_contradicts_itself_is_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        replace(item(), **change)


def test_masks_of_another_size_and_empty_masks_are_refused() -> None:
    whole = item()
    for mask, said in ((mask_at(height=5), "another size"), (encode_mask(np.zeros((HEIGHT, WIDTH), bool)), "empty")):
        with pytest.raises(ValueError, match=said):
            replace(whole, objects=(replace(whole.objects[0], masks={2: mask}, boxes={2: box()}),))
