"""Figures of the proving ground: what counts where, and a campaign that is gone on with."""

from pathlib import Path
from typing import Any

import pytest

from backend.domain.errors import BadInput
from workers.shapeworld.evaluation import campaign, trainings
from workers.shapeworld.evaluation.figures import figures
from workers.shapeworld.evaluation.ledger import Ledger, read_ledger
from workers.shapeworld.evaluation.scores import Case, ClipScore, Part
from workers.shapeworld.world.queries import Kind
from workers.shapeworld.world.splits import SEEDS, Split


def clip(kind: Kind = Kind.ATTRIBUTE, level: str = "easy", seed: int = 0, **changes: Any) -> ClipScore:
    usual: dict[str, Any] = {
        "well_formed": True, "described": True, "keyframes_visible": (True, True), "pipeline_j": 0.8,
        "pipeline_f": 0.6, "seconds": 2.0, "duration_s": 4.0, "box_hit": True, "things_seen": 2, "segmenter_j": 0.9,
        "segmenter_f": 1.0,
    }  # fmt: skip
    return ClipScore(Case(seed, kind, level), **usual | changes)


ABSENT = {"keyframes_visible": (), "box_hit": None, "things_seen": None, "segmenter_j": None, "segmenter_f": None}


def leaves(node: dict[str, Any]) -> list[dict[str, Any]]:
    if set(node) == {"value", "low", "high", "n"}:
        return [node]
    return [leaf for key, child in node.items() if key != "n" for leaf in leaves(child)]


def test_each_figure_is_over_the_clips_it_applies_to() -> None:
    found = figures(
        [
            clip(),
            clip(things_seen=5, box_hit=False, keyframes_visible=(True, False), segmenter_j=0.5),
            clip(Kind.PLURAL, box_hit=False, described=False),
            clip(Kind.ABSENT, pipeline_j=1.0, pipeline_f=1.0, well_formed=False, **ABSENT),
        ]
    )
    assert found["n"] == 4
    assert found["segmenter"]["j"] | {"low": 0, "high": 0} == {"value": 0.7667, "low": 0, "high": 0, "n": 3}
    assert found["segmenter"]["jf"]["value"] == pytest.approx((0.95 + 0.75 + 0.95) / 3, abs=1e-4)
    assert {k: (v["value"], v["n"]) for k, v in found["system2"]["acc50"].items()} == {"2": (1.0, 1), "5": (0.0, 1)}
    assert found["system2"]["plural"]["n"] == 1
    assert (found["system1"]["format"]["value"], found["system1"]["format"]["n"]) == (0.75, 4)
    assert (found["system1"]["keyframes_visible"]["value"], found["system1"]["keyframes_visible"]["n"]) == (0.8333, 6)
    described = {kind: (v["value"], v["n"]) for kind, v in found["system1"]["description"].items()}
    assert described == {"attribute": (1.0, 2), "plural": (0.0, 1), "absent": (1.0, 1)}
    assert found["pipeline"]["jf"]["attribute"]["value"] == 0.7
    assert found["pipeline"]["jf"]["all"]["value"] == 0.775
    assert found["pipeline"]["seconds_per_clip_second"]["value"] == 0.5
    for figure in leaves({k: v for k, v in found.items() if k not in ("n", "levels")}):
        assert figure["low"] <= figure["value"] <= figure["high"]


def test_what_was_not_measured_has_figures_of_no_clips() -> None:
    unrun = {"well_formed": None, "described": None, "keyframes_visible": (), "pipeline_j": None, "seconds": None}
    found = figures([clip(**unrun, box_hit=None), clip(**unrun, box_hit=None)])
    assert found["segmenter"]["j"]["n"] == 2
    assert found["system2"]["acc50"] == found["system1"]["description"] == {}
    assert {found["system1"]["format"]["n"], found["pipeline"]["jf"]["all"]["n"]} == {0}


def test_levels_are_figures_of_their_own_easiest_first() -> None:
    found = figures([clip(level="hard", described=False), clip(level="easy"), clip(level="medium")])
    assert list(found["levels"]) == ["easy", "medium", "hard"]
    assert [v["system1"]["description"]["attribute"]["value"] for v in found["levels"].values()] == [1.0, 1.0, 0.0]


def test_three_seeds_in_a_row_have_every_kind_at_every_level() -> None:
    cases = campaign.cases(range(7, 10))
    assert len({(case.kind, case.level) for case in cases}) == len(cases) == 30
    assert {case.level for case in campaign.cases(range(7, 10), levels=["hard"])} == {"hard"}
    assert [case.level for case in campaign.cases(range(7, 10), [Kind.PLURAL], ["easy", "medium"])] == [
        "medium", "easy", "medium",
    ]  # fmt: skip


def test_seeds_are_those_asked_for_or_three_hundred_of_the_split() -> None:
    assert campaign.seeds(None, "unseen") == SEEDS[Split.UNSEEN][:300]
    assert campaign.seeds("5:8", "test") == range(5, 8)
    for wrong in ("8:5", "a:b", "5", "-1:4"):
        with pytest.raises(BadInput, match="write A:B"):
            campaign.seeds(wrong, "test")
    with pytest.raises(BadInput, match="test, unseen, validation"):
        campaign.seeds(None, "train")


def test_unknown_kinds_and_levels_are_refused_with_what_there_is() -> None:
    assert campaign.kinds(["sound"]) == (Kind.SOUND,)
    with pytest.raises(BadInput, match="attribute, plural"):
        campaign.kinds(["colour"])
    with pytest.raises(BadInput, match="easy, medium, hard"):
        campaign.levels(["hard", "harder"])


def test_what_a_ledger_has_is_not_measured_again(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "ledger.jsonl"
    book = Ledger(path, "abc")
    first, second = clip(seed=1), clip(Kind.ABSENT, seed=2, **ABSENT)
    book.add(first)
    book.add(second)
    assert Ledger(path, "abc").scores == {first.case: first, second.case: second}


def test_a_ledger_of_other_models_is_refused(tmp_path: Path) -> None:
    Ledger(tmp_path / "l", "abc").add(clip())
    with pytest.raises(BadInput, match="scores of other models"):
        Ledger(tmp_path / "l", "def")
    with pytest.raises(BadInput, match="or parts"):
        Ledger(tmp_path / "l", "abc", [Part.SEGMENTER])


def test_a_line_cut_off_by_a_kill_is_measured_again(tmp_path: Path) -> None:
    path = tmp_path / "l"
    book = Ledger(path, "abc")
    first, second = clip(seed=1), clip(seed=2)
    book.add(first)
    book.add(second)
    path.write_text(path.read_text()[:-20])
    again = Ledger(path, "abc")
    assert again.scores == {first.case: first}
    again.add(second)
    assert set(Ledger(path, "abc").scores) == {first.case, second.case}


def ledger(path: Path, digest: str, scores: list[ClipScore], parts: tuple[Part, ...] = tuple(Part)) -> Path:
    book = Ledger(path, digest, parts)
    for score in scores:
        book.add(score)
    return path


def test_trainings_are_compared_on_the_clips_that_all_were_measured_on(tmp_path: Path) -> None:
    def training(name: str, right: list[int], keyframes: int, seeds: int = 4) -> Path:
        scores = [
            clip(seed=seed, described=seed in right, keyframes_visible=(True,) * keyframes) for seed in range(seeds)
        ]
        return ledger(tmp_path / name, name, scores)

    found = trainings.compare(
        [training("one", [0, 1, 2, 3], 2), training("two", [0], 3, seeds=6), training("three", [1, 2, 3], 2, seeds=5)]
    )
    assert (found.clips, found.left_out) == (4, 2)
    described = found.rows["system1", "description", "attribute"]
    assert (described.values, described.median, described.clips) == ((1.0, 0.25, 0.75), 0.75, "4")
    assert found.rows["system1", "keyframes_visible"].clips == "8 to 12"
    assert found.to_json()["figures"]["system1 description attribute"] == {
        "median": 0.75, "values": (1.0, 0.25, 0.75), "n": (4, 4, 4),
    }  # fmt: skip


def test_figures_of_no_clips_are_not_compared(tmp_path: Path) -> None:
    unrun = {"pipeline_j": None, "pipeline_f": None, "seconds": None}
    found = trainings.compare([ledger(tmp_path / name, name, [clip(**unrun)]) for name in "ab"])
    assert ("system1", "format") in found.rows
    assert not any(path[0] == "pipeline" for path in found.rows)


def test_ledgers_that_cannot_be_compared_are_refused(tmp_path: Path) -> None:
    first = ledger(tmp_path / "first", "a", [clip()])
    with pytest.raises(BadInput, match="same models"):
        trainings.compare([first, ledger(tmp_path / "again", "a", [clip(seed=1)])])
    with pytest.raises(BadInput, match=r"part is of system1, and .*first of "):
        trainings.compare([first, ledger(tmp_path / "part", "b", [clip()], (Part.SYSTEM1,))])
    with pytest.raises(BadInput, match="no clip was measured of all"):
        trainings.compare([first, ledger(tmp_path / "others", "b", [clip(seed=1)])])


@pytest.mark.parametrize("text", ["", "abc no-such-part\n", 'abc system1\n{"case": {}}\n'])
def test_what_is_no_ledger_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "l").write_text(text)
    with pytest.raises(BadInput, match="is no ledger"):
        read_ledger(tmp_path / "l")
    with pytest.raises(BadInput, match="there is no ledger"):
        read_ledger(tmp_path / "missing")
