"""Guards: when a training is to be stopped, and why, read off its history alone.

Pure functions. A step's row has `step`, `reward`, `entropy` (nats a token), `kl` (nats a token), `length` (tokens),
`truncated`, `dead_groups`, `unanswered` (shares); a value that couldn't be had is None. A held-out row has `step` and
`score`: the J&F of greedy answers, or another measure that rises with what people are shown. Not in the paper.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from backend.settings import GuardSettings

Row = Mapping[str, float | None]
History = Sequence[Row]


@dataclass(frozen=True, slots=True)
class Stop:
    """`guard`: which; `reason`: a sentence with the figures."""

    guard: str
    reason: str


def check(steps: History, held_out: History, limits: GuardSettings) -> Stop | None:
    """The first guard that says stop, or None."""
    for name, guard in GUARDS.items():
        if (reason := guard(steps, held_out, limits)) is not None:
            return Stop(name, reason)
    return None


def _values(rows: History, name: str) -> list[float]:
    return [value for row in rows if (value := row.get(name)) is not None]


def _ends(steps: History, name: str, limits: GuardSettings) -> tuple[list[float], list[float]] | None:
    """The values of the first and of the last window; None while these aren't apart."""
    values = _values(steps, name)
    if len(values) < 2 * limits.window:
        return None
    return values[: limits.window], values[-limits.window :]


def blind(steps: History, _: History, limits: GuardSettings) -> str | None:
    """System 2 and SAM2 haven't answered for so many steps: what is left of the reward is easily gamed."""
    last = [row.get("unanswered") or 0.0 for row in steps[-limits.blind_steps :]]
    if len(last) < limits.blind_steps or min(last) < 1:
        return None
    return f"for {len(last)} steps the rewards of System 2 and SAM2 couldn't be had: see to the reward service"


def not_finite(steps: History, _: History, limits: GuardSettings) -> str | None:  # noqa: ARG001 (all guards take them)
    """A number that is none."""
    wrong = [name for name in ("loss", "grad_norm", "kl") for v in _values(steps[-1:], name) if not np.isfinite(v)]
    return f"{' and '.join(wrong)} of the last step is not finite" if wrong else None


def entropy(steps: History, _: History, limits: GuardSettings) -> str | None:
    """The model has stopped exploring, or has come apart."""
    if (ends := _ends(steps, "entropy", limits)) is None:
        return None
    first, last = (float(np.mean(end)) for end in ends)
    said = f"entropy went from {first:.3f} to {last:.3f} nats a token"
    if last < limits.entropy_min_share * first:
        return f"{said}, below {limits.entropy_min_share:g} of it: the model writes the same thing every time"
    if last > limits.entropy_max_share * first:
        return f"{said}, above {limits.entropy_max_share:g} times it: the model is coming apart"
    return None


def kl(steps: History, _: History, limits: GuardSettings) -> str | None:
    """The model has gone too far from its base."""
    values = _values(steps, "kl")[-limits.window :]
    if len(values) < limits.window or (mean := float(np.mean(values))) <= limits.kl_max:
        return None
    return f"the KL to the base is {mean:.3f} nats a token, over {limits.kl_max:g}: raise beta or lower the rate"


def length(steps: History, _: History, limits: GuardSettings) -> str | None:
    """Answers grow, shrink, or no longer end."""
    truncated = _values(steps, "truncated")[-limits.window :]
    if len(truncated) == limits.window and (share := float(np.mean(truncated))) > limits.truncated_max:
        return f"{share:.0%} of the completions don't end, over {limits.truncated_max:.0%}"
    if (ends := _ends(steps, "length", limits)) is None:
        return None
    first, last = (float(np.mean(end)) for end in ends)
    if first / limits.length_factor <= last <= first * limits.length_factor:
        return None
    return f"completions went from {first:.0f} to {last:.0f} tokens, more than a factor of {limits.length_factor:g}"


def dead_groups(steps: History, _: History, limits: GuardSettings) -> str | None:
    """In nearly every group all completions earn the same: there is nothing to learn from."""
    values = _values(steps, "dead_groups")[-limits.window :]
    if len(values) < limits.window or (share := float(np.mean(values))) <= limits.dead_groups_max:
        return None
    return f"in {share:.0%} of the groups all completions earn the same, over {limits.dead_groups_max:.0%}"


def gamed(steps: History, held_out: History, limits: GuardSettings) -> str | None:
    """The sampled reward rises, and what people are shown doesn't: the reward is being gamed.

    Risen: the mean of the last window lies so many standard errors above that of the first. Stopped if meanwhile the
    mean of the last two held-out scores has fallen by `held_out_loss`, or if none of the last `held_out_patience`
    brought a gain over the first.
    """
    scores = _values(held_out, "score")
    rewards = _ends(steps, "reward", limits)
    if rewards is None or len(scores) < 2:
        return None
    first, last = rewards
    risen = float(np.mean(last) - np.mean(first))
    error = float(np.sqrt((np.var(first, ddof=1) + np.var(last, ddof=1)) / limits.window))
    if risen <= 0 or risen < limits.reward_rise_z * error:
        return None
    said = f"the sampled reward rose by {risen:.3f} (standard error {error:.3f})"
    changed = float(np.mean(scores[-2:])) - scores[0]
    if len(scores) >= 3 and changed <= -limits.held_out_loss:
        return f"{said} while the held-out score fell by {-changed:.3f}, from {scores[0]:.3f}: the reward is gamed"
    recent = scores[1:][-limits.held_out_patience :]
    if len(recent) == limits.held_out_patience and max(recent) <= scores[0]:
        return (
            f"{said} while none of {len(recent)} held-out scores ({max(recent):.3f} at best) was above the first,"
            f" {scores[0]:.3f}: the reward buys nothing that people see"
        )
    return None


def worse(_: History, held_out: History, limits: GuardSettings) -> str | None:
    """What people are shown has got much worse, whatever the reward does."""
    scores = _values(held_out, "score")
    if len(scores) < 3 or (lost := scores[0] - float(np.mean(scores[-2:]))) < limits.held_out_fall:
        return None
    return f"the held-out score fell by {lost:.3f}, from {scores[0]:.3f}: lower the rate, or raise beta"


#: In the order in which they are asked.
GUARDS: dict[str, Callable[[History, History, GuardSettings], str | None]] = {
    "not_finite": not_finite, "blind": blind, "entropy": entropy, "kl": kl, "length": length,
    "dead_groups": dead_groups, "gamed": gamed, "worse": worse,
}  # fmt: skip
