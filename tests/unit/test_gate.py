"""The gate: what passes, what doesn't and why; the bootstrap against what is known of it; the page."""

import re
from collections.abc import Callable
from dataclasses import replace
from html import escape

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.settings import GateSettings
from workers.evaluation.gate import ItemScore, Role, SuiteScores, Verdict, bootstrap, judge
from workers.evaluation.report import page

LIMITS = GateSettings(resamples=2000)
KINDS = ("attribute", "relation", "sound")


def suite(
    role: Role, gain: Callable[[int], float], videos: int = 60, name: str | None = None, **changes: object
) -> SuiteScores:
    """Items of three kinds in turn; the candidate's J&F is the champion's plus `gain`."""
    draw = np.random.default_rng(1)
    champion = tuple(
        ItemScore(f"i{n}", f"v{n}", KINDS[n % 3], float(draw.uniform(0.3, 0.7)), True, 1.0) for n in range(videos)
    )
    candidate = tuple(replace(s, jf=s.jf + gain(n), **changes) for n, s in enumerate(champion))
    return SuiteScores(name or role.value, role, champion, candidate)


def better(n: int) -> float:
    return 0.05 + 0.1 * (-1) ** n


def wavering(n: int) -> float:
    return 0.01 + 0.3 * (-1) ** n


def worse(n: int) -> float:
    return -0.011 + 0.05 * (-1) ** n


def same(_: int) -> float:
    return 0.0


def verdict_of(*suites: SuiteScores, kl: float | None = None) -> Verdict:
    return judge("c" * 64, "a" * 64, suites, LIMITS, kl)


def failed(verdict: Verdict) -> set[str]:
    return {check.name for check in verdict.checks if check.passed is False}


def test_a_better_candidate_that_loses_nothing_passes() -> None:
    found = verdict_of(suite(Role.FRESH, better), suite(Role.REGRESSION, same), kl=0.1)
    assert found.passed
    assert found.reasons == ()
    assert found.suites[0].whole.difference.mean == pytest.approx(0.05)
    assert set(found.suites[0].groups) == set(KINDS)


@pytest.mark.parametrize(
    ("suites", "kl", "reasons"),
    [
        ((suite(Role.FRESH, same), suite(Role.REGRESSION, same)), None, {"better on fresh"}),
        # Better on average, but the interval holds 0.
        ((suite(Role.FRESH, wavering), suite(Role.REGRESSION, same)), None, {"better on fresh"}),
        # Surely better, but on too few videos to say so.
        ((suite(Role.FRESH, better, 19), suite(Role.REGRESSION, same)), None, {"better on fresh"}),
        ((suite(Role.FRESH, better), suite(Role.REGRESSION, worse)), None, {"no worse on regression"}),
        ((suite(Role.FRESH, better),), None, {"regression suite"}),
        ((suite(Role.REGRESSION, same),), None, {"fresh suite"}),
        ((), None, {"fresh suite", "regression suite", "well-formed answers"}),
        ((suite(Role.FRESH, better, well_formed=False), suite(Role.REGRESSION, same)), None, {"well-formed answers"}),
        ((suite(Role.FRESH, better, seconds=1.6), suite(Role.REGRESSION, same)), None, {"latency"}),
        ((suite(Role.FRESH, better), suite(Role.REGRESSION, same)), 0.51, {"KL"}),
        # One kind falls, and the others hide it.
        ((suite(Role.FRESH, better), suite(Role.REGRESSION, lambda n: -0.05 if n % 3 == 2 else 0.05)), None,
         {"no worse on sound of regression"}),
    ],
)  # fmt: skip
def test_what_is_refused_is_refused_for_its_reason(
    suites: tuple[SuiteScores, ...], kl: float | None, reasons: set[str]
) -> None:
    found = verdict_of(*suites, kl=kl)
    assert not found.passed
    assert failed(found) == reasons


def test_a_loss_within_epsilon_and_a_slower_answer_within_the_limit_pass() -> None:
    slower = suite(Role.FRESH, better, seconds=1.2)
    assert verdict_of(slower, suite(Role.REGRESSION, lambda _: -0.009)).passed
    # A champion's seconds on a regression suite may be of a night when the machine had nothing else to do.
    assert verdict_of(suite(Role.FRESH, better), suite(Role.REGRESSION, same, seconds=9.0)).passed


def test_one_percent_of_bad_answers_is_allowed_and_two_are_not() -> None:
    def with_bad(count: int) -> SuiteScores:
        made = suite(Role.FRESH, better, 100)
        return replace(made, candidate=tuple(replace(s, well_formed=n >= count) for n, s in enumerate(made.candidate)))

    assert verdict_of(with_bad(2), suite(Role.REGRESSION, same, 100)).passed  # 2 of 200
    assert failed(verdict_of(with_bad(3), suite(Role.REGRESSION, same, 100))) == {"well-formed answers"}


def test_instructions_on_one_video_count_as_one() -> None:
    """Thirty instructions on three videos are three chances, not ninety."""
    made = suite(Role.FRESH, better, 90)
    same_source = {s.item_id: f"v{n // 30}" for n, s in enumerate(made.champion)}
    grouped = replace(
        made,
        champion=tuple(replace(s, source_id=same_source[s.item_id]) for s in made.champion),
        candidate=tuple(replace(s, source_id=same_source[s.item_id]) for s in made.candidate),
    )
    found = verdict_of(grouped, suite(Role.REGRESSION, same))
    assert found.suites[0].whole.difference.videos == 3
    assert failed(found) == {"better on fresh"}


def test_what_can_not_be_paired_is_refused() -> None:
    made = suite(Role.FRESH, better)
    with pytest.raises(ValueError, match="1 items were scored for one of the models alone"):
        replace(made, candidate=made.candidate[1:])
    with pytest.raises(ValueError, match="twice"):
        replace(made, candidate=(made.candidate[0], *made.candidate))
    with pytest.raises(ValueError, match="the champion itself"):
        judge("a" * 64, "a" * 64, [made], LIMITS)


@settings(max_examples=10, deadline=None)
@given(st.permutations(range(30)))
def test_the_verdict_does_not_depend_on_the_order_of_items(order: list[int]) -> None:
    made, other = suite(Role.FRESH, better, 30), suite(Role.REGRESSION, same)
    shuffled = replace(made, candidate=tuple(made.candidate[i] for i in order))
    assert verdict_of(shuffled, other).digest == verdict_of(made, other).digest


def test_the_digest_covers_what_was_measured_and_the_limits() -> None:
    suites = [suite(Role.FRESH, better), suite(Role.REGRESSION, same)]
    digests = {
        verdict_of(*suites).digest, verdict_of(*suites, kl=0.1).digest,
        judge("c" * 64, "a" * 64, suites, GateSettings(resamples=2000, epsilon=0.02)).digest,
        judge("d" * 64, "a" * 64, suites, LIMITS).digest,
        verdict_of(suites[0], suite(Role.REGRESSION, lambda _: 0.001)).digest,
    }  # fmt: skip
    assert len(digests) == 5


def test_the_bootstrap_is_that_of_a_mean() -> None:
    values = np.random.default_rng(0).normal(0.02, 0.1, 400)
    found = bootstrap(values, 0.95, 10_000, seed=0)
    error = values.std() / 20
    assert found.mean == pytest.approx(values.mean(), abs=1e-6)
    assert (found.low, found.high) == pytest.approx(
        (values.mean() - 1.96 * error, values.mean() + 1.96 * error), abs=6e-4
    )
    wide = bootstrap(values, 0.99, 10_000, seed=0)
    assert wide.low < found.low < found.high < wide.high


def test_two_equal_models_are_told_apart_as_rarely_as_the_confidence_says() -> None:
    draw = np.random.default_rng(5)
    wrong = sum(bootstrap(draw.normal(0, 0.1, 60), 0.95, 1000, seed=0).low > 0 for _ in range(400))
    assert 1 <= wrong <= 22  # 2.5% of 400 are 10


def test_the_page_says_what_the_verdict_says_and_needs_nothing_else() -> None:
    found = verdict_of(
        suite(Role.FRESH, better, name="fresh <hold-out> & more"), suite(Role.REGRESSION, lambda _: -0.02)
    )
    html = page(found)
    assert html == page(found)
    assert "is refused" in html
    assert "fresh &lt;hold-out&gt; &amp; more" in html
    assert "<hold-out>" not in html
    for check in found.checks:
        assert escape(check.said) in html
    assert html.count("<svg") == html.count("</svg>") == 3
    addresses = set(re.findall(r'(?:src|href)="(?!#)([^"]*)"', html)) | set(re.findall(r"url\((?!#)([^)]*)\)", html))
    assert addresses == set()
