"""What is said of a track's being right: measured, and never more than the evidence holds."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from backend.domain.confidence import Calibration, TrackEvidence, log_odds, names_of
from backend.profiles import ConfidenceProfile, load_profile
from workers.evaluation.calibration import fit, reliability
from workers.evaluation.reliability_picture import draw

NAMES = names_of(TrackEvidence)
SHARES = st.floats(0, 1)
EVIDENCE = st.builds(TrackEvidence, **dict.fromkeys(NAMES, SHARES))


def drawn(rng: np.random.Generator) -> TrackEvidence:
    return TrackEvidence(**dict(zip(NAMES, rng.uniform(0.02, 0.98, len(NAMES)).tolist(), strict=True)))


@given(EVIDENCE, st.sampled_from(NAMES), SHARES)
def test_more_of_what_speaks_for_it_is_never_less_likely(evidence: TrackEvidence, name: str, share: float) -> None:
    calibration = Calibration(-1.0, dict.fromkeys(NAMES, 0.7), 0.75)
    more = replace(evidence, **{name: max(share, getattr(evidence, name))})
    assert 0 < calibration.probability(evidence) <= calibration.probability(more) < 1


@given(SHARES)
def test_log_odds_are_finite_and_turn_over(share: float) -> None:
    assert math.isfinite(log_odds(share))
    assert log_odds(share) == pytest.approx(-log_odds(1 - share), abs=1e-6)


def test_what_made_the_tracks_right_is_found() -> None:
    """Tracks that are right by a known rule: the fit has its probabilities, and puts nothing on the rest."""
    rng = np.random.default_rng(0)
    truth = Calibration(-0.5, {"said_lowest": 1.0, "seen": 2.0}, 0.75)
    evidence = [drawn(rng) for _ in range(4000)]
    right = [bool(rng.uniform() < truth.probability(one)) for one in evidence]
    found = fit(evidence, right, 0.75)
    apart = [abs(found.probability(one) - truth.probability(one)) for one in evidence]
    assert np.mean(apart) < 0.02
    assert found.weights["seen"] == pytest.approx(2.0, abs=0.25)
    assert all(abs(found.weights[name]) < 0.15 for name in NAMES if name not in truth.weights)
    fresh = [drawn(rng) for _ in range(4000)]
    said = [found.probability(one) for one in fresh]
    held = reliability(said, [bool(rng.uniform() < truth.probability(one)) for one in fresh])
    assert held.expected_calibration_error < 0.03
    assert held.auc > 0.8


def test_evidence_by_which_the_clips_hardly_differ_gets_no_great_weight() -> None:
    """SAM2 was sure that everything is there, but of one thing that was wrong a little less: the next thing of which it
    is a little less sure is not thrown over by that."""
    rng = np.random.default_rng(0)
    evidence = [replace(drawn(rng), present=0.9999996) for _ in range(200)]
    evidence[0] = replace(evidence[0], present=0.9988)
    right = [one.seen > 0.3 for one in evidence[1:]]
    found = fit(evidence, [False, *right], 0.75)
    usual = replace(evidence[1], seen=0.9)
    less = found.probability(replace(usual, present=0.99))
    assert less > 0.8 * found.probability(usual) > 0.6


def test_reliability_is_what_it_is_called() -> None:
    found = reliability([0.9, 0.8, 0.3, 0.2], [True, True, False, False])
    assert found.auc == 1.0
    assert found.brier == pytest.approx((0.01 + 0.04 + 0.09 + 0.04) / 4)
    assert reliability([0.2, 0.3, 0.8, 0.9], [True, True, False, False]).auc == 0.0
    assert reliability([0.5] * 4, [True, False, True, False]).auc == 0.5
    sure = reliability([0.99] * 100, [True] * 50 + [False] * 50)
    assert sum(count for *_, count in sure.bins) == 100
    # Equal probabilities lie in bins as they came; the error is of the bins together.
    assert sure.expected_calibration_error == pytest.approx(0.49, abs=0.2)


def test_reliability_is_drawn(tmp_path: Path) -> None:
    one = reliability([0.9, 0.8, 0.3, 0.2], [True, True, False, False])
    path = tmp_path / "reliability.png"
    draw({"track": (one, one), "box": (one, one)}, path)
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        assert picture.width > 1.5 * picture.height > 300


@pytest.mark.parametrize("right", [[True, True], [False, False]])
def test_nothing_is_learned_where_all_are_alike(right: list[bool]) -> None:
    evidence = [drawn(np.random.default_rng(n)) for n in range(2)]
    with pytest.raises(ValueError, match="right and some"):
        fit(evidence, right, 0.75)
    with pytest.raises(ValueError, match="right and some"):
        reliability([0.4, 0.6], right)


def test_a_calibration_is_part_of_a_model_version_and_one_without_is_what_it_was() -> None:
    profile = load_profile("shapeworld")
    bare = type(profile).model_validate(profile.model_dump() | {"confidence": None})
    table = {"bias": 1.0, "weights": {"seen": 1.0}, "right_iou": 0.75}
    tables = dict.fromkeys(("track", "box", "frame"), table)
    other = type(profile).model_validate(profile.model_dump() | {"confidence": tables})
    assert bare.confidence is None
    assert other.digest != bare.digest
    assert other.confidence is not None
    assert other.confidence.functions().box == Calibration(1.0, {"seen": 1.0}, 0.75)
    with pytest.raises(ValueError, match="no evidence of a frame is called hope"):
        ConfidenceProfile.model_validate(tables | {"frame": table | {"weights": {"hope": 1.0}}})
