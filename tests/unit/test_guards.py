"""Guards on literal histories: each stops what it is for, and leaves a training that goes well alone."""

import re
from typing import Any

import pytest

from backend.settings import GuardSettings
from workers.learning.guards import GUARDS, check

LIMITS = GuardSettings(window=4)
STEPS = 12


def steps(**courses: list[float | None]) -> list[dict[str, float | None]]:
    """A healthy history, but for what is given: values that are drawn out over its steps."""
    healthy: dict[str, list[Any]] = {
        "loss": [0.0], "grad_norm": [0.5], "reward": [2.0, 2.1, 1.9, 2.0], "entropy": [0.5], "kl": [0.01],
        "length": [90.0], "truncated": [0.0], "dead_groups": [0.2], "unanswered": [0.0],
    }  # fmt: skip
    courses = healthy | courses
    return [
        {"step": n + 1} | {name: values[n * len(values) // STEPS] for name, values in courses.items()}
        for n in range(STEPS)
    ]


def held_out(*scores: float | None) -> list[dict[str, float | None]]:
    return [{"step": 4 * n, "score": score} for n, score in enumerate(scores)]


RISING: dict[str, list[float | None]] = {"reward": [2.0, 2.1, 1.9, 2.0, 2.2, 2.3, 2.4, 2.4, 2.6, 2.7, 2.6, 2.7]}
FLAT = [0.90, 0.90, 0.89, 0.90, 0.90]


@pytest.mark.parametrize(
    ("history", "scores", "guard", "words"),
    [
        ({}, FLAT, None, ""),
        (RISING, [0.90, 0.91, 0.93, 0.92], None, ""),
        (RISING, [0.90, 0.89, 0.89], None, ""),
        (RISING, [0.90, 0.91, 0.89, 0.89, 0.90], None, ""),
        (RISING, [None, None, None], None, ""),
        (RISING, [0.905, 0.89, 0.86], "gamed", r"rose by 0\.650 \(standard error 0\.0.*fell by 0\.030, from 0\.905"),
        (RISING, FLAT, "gamed", r"none of 4 held-out scores \(0\.900 at best\) was above the first, 0\.900"),
        ({"reward": [2.7, 2.0]}, [0.90, 0.80, 0.70], "worse", r"fell by 0\.150, from 0\.900: lower the rate"),
        ({"reward": [2.7, 2.0]}, [0.90, 0.80, 0.85], None, ""),
        ({"reward": [2.7, 2.0]}, [0.90, 0.60], None, ""),
        ({"entropy": [0.5, 0.3, 0.05]}, [], "entropy", "from 0.500 to 0.050 nats .* the same thing every time"),
        ({"entropy": [0.5, 1.0, 2.1]}, [], "entropy", "coming apart"),
        ({"entropy": [0.5, 0.3, 0.2]}, [], None, ""),
        ({"kl": [0.0, 0.1, 0.7]}, [], "kl", r"0\.700 nats a token, over 0\.5"),
        ({"kl": [None]}, [], None, ""),
        ({"length": [90.0, 120.0, 181.0]}, [], "length", "from 90 to 181 tokens"),
        ({"length": [90.0, 60.0, 44.0]}, [], "length", "from 90 to 44 tokens"),
        ({"truncated": [0.0, 0.1, 0.4]}, [], "length", "40% of the completions don't end"),
        ({"dead_groups": [0.5, 0.9, 1.0]}, [], "dead_groups", "in 100% of the groups"),
        ({"unanswered": [0.0, 1.0]}, [], "blind", "for 5 steps the rewards"),
        ({"unanswered": [0.0, 0.5]}, [], None, ""),
        ({"grad_norm": [0.5] * 11 + [float("nan")]}, [], "not_finite", "grad_norm of the last step"),
    ],
)
def test_each_history(
    history: dict[str, list[float | None]], scores: list[float | None], guard: str | None, words: str
) -> None:
    stop = check(steps(**history), held_out(*scores), LIMITS)
    assert (stop.guard if stop else None) == guard
    if stop is not None:
        assert re.search(words, stop.reason), stop.reason


@pytest.mark.parametrize("count", [0, 1, 3, 7])
def test_a_short_history_stops_nothing(count: int) -> None:
    bad = steps(entropy=[0.5, 0.01], reward=[0.0, 9.0], length=[10.0, 1000.0])[:count]
    assert check(bad, held_out(0.9, 0.5), LIMITS) is None


def test_steps_without_a_reward_are_no_fall() -> None:
    """An outage leaves no figure; what was before and after it is compared."""
    assert check(steps(reward=[2.0, 2.1, 1.9, None, None, 2.0]), held_out(*FLAT), LIMITS) is None


def test_the_course_that_was_gamed_in_a_prototype_is_stopped() -> None:
    """Sampled reward +0.169 ± 0.028 in 92 steps, greedy descriptions 0.905 to 0.867: the figures of a run without a
    KL whose reward counted keyframes."""
    noise = [0.05, -0.04, 0.02, -0.03, 0.0, 0.03, -0.05, 0.02, 0.01, -0.01]
    course = [{"step": n + 1, "reward": 1.60 + 0.169 * n / 91 + noise[n % 10]} for n in range(92)]
    scores = [{"step": 23 * n, "score": 0.905 - 0.038 * n / 4} for n in range(5)]
    seen = [check(course[: 23 * n], scores[: n + 1], GuardSettings()) for n in range(5)]
    assert [stop.guard if stop else None for stop in seen] == [None, None, None, None, "gamed"]


def test_every_guard_is_asked() -> None:
    assert set(GUARDS) == {"not_finite", "blind", "entropy", "kl", "length", "dead_groups", "gamed", "worse"}
