"""The evaluation: the promised figures, each with its interval; and a pipeline that finds nothing scores nothing."""

from typing import Any

import pytest

from workers.pipeline.omni import OmniPipeline
from workers.pipeline.thinker import Completion
from workers.shapeworld.evaluate import evaluate

pytestmark = pytest.mark.slow


def leaves(node: dict[str, Any]) -> list[dict[str, Any]]:
    if set(node) == {"value", "low", "high", "n"}:
        return [node]
    return [leaf for child in node.values() for leaf in leaves(child)]


def test_one_seed_gives_every_figure_with_its_interval(pipeline: OmniPipeline) -> None:
    seen = []
    figures = evaluate(pipeline, [10_000], lambda scores: seen.append(scores.clips)).to_json()
    assert seen == [1, 2, 3, 4, 5]
    assert figures["n"] == 5
    kinds = {"attribute", "fastest", "appears_last", "leaves", "sound"}
    assert set(figures["system1"]["description"]) == kinds
    assert set(figures["pipeline"]["jf"]) == {*kinds, "all"}
    assert figures["pipeline"]["jf"]["all"]["n"] == 5
    assert figures["segmenter"]["j"]["value"] > 0.5
    assert figures["system1"]["format"]["value"] == 1.0
    for figure in leaves({key: value for key, value in figures.items() if key != "n"}):
        assert figure["low"] <= figure["value"] <= figure["high"]


def test_a_model_that_talks_nonsense_scores_nothing(pipeline: OmniPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    nonsense = Completion("<think>hm</think><answer>nothing to see</answer>", 0.5, None)
    monkeypatch.setattr(pipeline.system1._thinker, "generate", lambda *_, **__: [nonsense])
    figures = evaluate(pipeline, [10_001]).to_json()
    assert figures["system1"]["format"]["value"] == 0.0
    assert figures["system1"]["keyframes_visible"]["n"] == 0
    assert {f["value"] for f in figures["system1"]["description"].values()} == {0.0}
    assert figures["pipeline"]["jf"]["all"]["value"] < 0.5
    assert figures["segmenter"]["j"]["value"] > 0.5  # measured alone, with a true box
