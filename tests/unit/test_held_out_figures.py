"""What a training is measured by while it goes on: of samples whose masks aren't known, and of those SAM2 left out."""

import pytest

from workers.evaluation.metrics import Similarity
from workers.learning.held_out import figures
from workers.learning.judging import Judged
from workers.learning.rewards import Reward


def judged(jf: float | None, *, answered: bool = True, right: bool | None = None) -> tuple[str, Judged]:
    alike = None if jf is None else Similarity(jf, jf)
    return "vos", Judged(Reward(1.0, 1.5, None, None), 3, answered, alike, right)


@pytest.mark.parametrize(
    ("found", "score", "count"),
    [
        ([judged(0.25), judged(0.75)], 0.5, 2),
        # Of one no mask is known on the frames that are shown: the others are the measure, as they are every time.
        ([judged(0.25), judged(0.75), judged(None)], 0.5, 2),
        # SAM2 was away for one: no figure to be compared with others.
        ([judged(0.25), judged(None, answered=False)], None, 1),
        # SAM2 wasn't asked, or for nobody there: right descriptions are the measure, where they are known.
        ([judged(None, right=True), judged(None, right=False)], 0.5, 0),
        ([judged(None), judged(None)], None, 0),
    ],
)
def test_score(found: list[tuple[str, Judged]], score: float | None, count: int) -> None:
    told = figures(found)
    assert (told["score"], told["jf_n"], told["n"]) == (score, count, len(found))
