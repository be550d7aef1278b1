"""The gate: whether a candidate may take the champion's place, from the scores of both on the same videos.

Pure: scores in, verdict out. The same scores and limits give the same verdict, to the digit, and so the same digest.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.settings import GateSettings

_DIGITS = 6
#: Resampled videos that are held at a time.
_DRAWS = 1 << 22


class Role(StrEnum):
    """What a suite is for: on a fresh one the candidate must be better, on a regression suite it must not be worse."""

    FRESH = "fresh"
    REGRESSION = "regression"


@dataclass(frozen=True, slots=True)
class ItemScore:
    """How one model did on one item: an instruction on a video.

    `source_id` names the source video, the unit of chance; `group` the kind of instruction. `jf` is J&F in 0..1 over
    the frames whose truth is known, `seconds` how long the answer took.
    """

    item_id: str
    source_id: str
    group: str
    jf: float
    well_formed: bool
    seconds: float


@dataclass(frozen=True, slots=True)
class SuiteScores:
    """Both models on one suite, the same items each. Raises `ValueError` where they are not, or there are none."""

    name: str
    role: Role
    champion: tuple[ItemScore, ...]
    candidate: tuple[ItemScore, ...]

    def __post_init__(self) -> None:
        ours, theirs = ({(s.item_id, s.source_id) for s in side} for side in (self.candidate, self.champion))
        if not ours or len(ours) != len(self.candidate) or len(theirs) != len(self.champion):
            raise ValueError(f"suite {self.name} has no items, or one of them twice")
        if ours != theirs:
            raise ValueError(f"suite {self.name}: {len(ours ^ theirs)} items were scored for one of the models alone")

    @property
    def pairs(self) -> list[tuple[ItemScore, ItemScore]]:
        """(champion, candidate), by item."""
        of = {score.item_id: score for score in self.candidate}
        return [(score, of[score.item_id]) for score in sorted(self.champion, key=lambda s: s.item_id)]


@dataclass(frozen=True, slots=True)
class Difference:
    """Candidate minus champion: mean over so many source videos, with the ends of its bootstrap interval."""

    mean: float
    low: float
    high: float
    videos: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """J&F of both models, means over source videos, and their paired difference."""

    champion_jf: float
    candidate_jf: float
    difference: Difference


@dataclass(frozen=True, slots=True)
class SuiteFigures:
    """`items`: (item, group, champion's J&F, candidate's), what the figures were made of."""

    name: str
    role: Role
    whole: Comparison
    groups: Mapping[str, Comparison]
    items: tuple[tuple[str, str, float, float], ...]


@dataclass(frozen=True, slots=True)
class Check:
    """One condition. `passed` None: it could not be measured and doesn't count; `said` says so."""

    name: str
    passed: bool | None
    value: float | None
    limit: float
    said: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """`candidate` and `champion` are digests of model versions."""

    candidate: str
    champion: str
    passed: bool
    checks: tuple[Check, ...]
    suites: tuple[SuiteFigures, ...]
    limits: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def digest(self) -> str:
        """SHA-256 of the JSON form, names in order."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it was refused."""
        return tuple(check.said for check in self.checks if check.passed is False)


def judge(
    candidate: str, champion: str, suites: Sequence[SuiteScores], limits: GateSettings, kl: float | None = None
) -> Verdict:
    """Whether the candidate may be promoted. `kl`: its divergence from the champion as its training measured it, None
    where it was not trained from it.

    It may if on every fresh suite the paired difference's lower bound is above 0, no regression suite loses more than
    `limits.epsilon` on average, no group of any suite surely loses more than that, and form, latency and KL are within
    their limits. Without a fresh and a regression suite it may not.
    """
    if candidate == champion:
        raise ValueError(f"the candidate is the champion itself, model version {champion}")
    figures = [figures_of(suite, limits) for suite in suites]
    checks = [
        *_fresh(figures, limits), *_regressions(figures, limits), *_groups(figures, limits),
        _form(suites, limits), _latency(suites, limits), _kl(kl, limits),
    ]  # fmt: skip
    passed = all(check.passed is not False for check in checks)
    return Verdict(candidate, champion, passed, tuple(checks), tuple(figures), limits.model_dump(mode="json"))


def figures_of(suite: SuiteScores, limits: GateSettings) -> SuiteFigures:
    pairs = suite.pairs
    groups: dict[str, list[tuple[ItemScore, ItemScore]]] = defaultdict(list)
    for pair in pairs:
        groups[pair[0].group].append(pair)
    items = tuple((one.item_id, one.group, round(one.jf, _DIGITS), round(other.jf, _DIGITS)) for one, other in pairs)
    compared = {group: _compare(found, limits) for group, found in sorted(groups.items())}
    return SuiteFigures(suite.name, suite.role, _compare(pairs, limits), compared, items)


def _compare(pairs: Sequence[tuple[ItemScore, ItemScore]], limits: GateSettings) -> Comparison:
    champion = _by_source((one.source_id, one.jf) for one, _ in pairs)
    candidate = _by_source((one.source_id, one.jf) for _, one in pairs)
    difference = bootstrap(candidate - champion, limits.confidence, limits.resamples, limits.seed)
    return Comparison(round(float(champion.mean()), _DIGITS), round(float(candidate.mean()), _DIGITS), difference)


def _by_source(values: Iterable[tuple[str, float]]) -> NDArray[np.float64]:
    """One value a source video: several instructions on one video share its chances and count as one."""
    found: dict[str, list[float]] = defaultdict(list)
    for source_id, value in values:
        found[source_id].append(value)
    return np.array([float(np.mean(found[source_id])) for source_id in sorted(found)])


def bootstrap(differences: NDArray[np.float64], confidence: float, resamples: int, seed: int) -> Difference:
    """The mean of paired differences, one a video, with its percentile interval over resampled videos."""
    n = len(differences)
    draw = np.random.default_rng(seed)
    size = max(1, _DRAWS // n)
    means = np.concatenate(
        [differences[draw.integers(0, n, (min(size, resamples - start), n))].mean(1)
         for start in range(0, resamples, size)]
    )  # fmt: skip
    tail = 100 * (1 - confidence) / 2
    low, high = np.percentile(means, [tail, 100 - tail])
    mean, low, high = (round(float(value), _DIGITS) for value in (differences.mean(), low, high))
    return Difference(mean, low, high, n)


def _of(figures: Sequence[SuiteFigures], role: Role) -> list[SuiteFigures]:
    return [suite for suite in figures if suite.role is role]


def _missing(role: Role) -> Check:
    return Check(f"{role} suite", False, None, 1, f"there is no {role} suite, so nothing says that it may be promoted")


def _fresh(figures: Sequence[SuiteFigures], limits: GateSettings) -> list[Check]:
    checks = []
    for suite in _of(figures, Role.FRESH):
        found = suite.whole.difference
        enough = found.videos >= limits.min_videos
        said = f"on {suite.name} J&F changes by {_signed(found)} over {found.videos} videos"
        said += "" if enough else f", fewer than the {limits.min_videos} it takes"
        checks.append(Check(f"better on {suite.name}", enough and found.low > 0, found.low, 0.0, said))
    return checks or [_missing(Role.FRESH)]


def _regressions(figures: Sequence[SuiteFigures], limits: GateSettings) -> list[Check]:
    checks = []
    for suite in _of(figures, Role.REGRESSION):
        found = suite.whole.difference
        said = f"on {suite.name} J&F changes by {_signed(found)}; it may lose {limits.epsilon:g}"
        checks.append(
            Check(f"no worse on {suite.name}", found.mean >= -limits.epsilon, found.mean, -limits.epsilon, said)
        )
    return checks or [_missing(Role.REGRESSION)]


def _groups(figures: Sequence[SuiteFigures], limits: GateSettings) -> list[Check]:
    """A mean over a suite can hide a kind of instruction that fell to nothing."""
    checks = []
    for suite in figures:
        for group, compared in suite.groups.items():
            found = compared.difference
            # Of few videos the interval is too short to be believed.
            enough = len(suite.groups) > 1 and found.videos >= limits.min_videos
            if enough and found.high < -limits.epsilon:
                said = (
                    f"on {group} of {suite.name} J&F changes by {_signed(found)}: surely more than {limits.epsilon:g}"
                )
                checks.append(Check(f"no worse on {group} of {suite.name}", False, found.high, -limits.epsilon, said))
    return checks


def _signed(found: Difference) -> str:
    return f"{found.mean:+.4f} ({found.low:+.4f} to {found.high:+.4f})"


def _form(suites: Sequence[SuiteScores], limits: GateSettings) -> Check:
    answers = [score.well_formed for suite in suites for score in suite.candidate]
    share = round(sum(answers) / len(answers), _DIGITS) if answers else 0.0
    said = f"{sum(answers)} of {len(answers)} answers are well-formed ({share:.2%}); it takes {limits.well_formed:.2%}"
    return Check("well-formed answers", share >= limits.well_formed, share, limits.well_formed, said)


def _latency(suites: Sequence[SuiteScores], limits: GateSettings) -> Check:
    # Those of a regression suite may be of another night.
    fresh = [suite for suite in suites if suite.role is Role.FRESH]

    def seconds(side: Callable[[SuiteScores], Sequence[ItemScore]]) -> float:
        return sum(score.seconds for suite in fresh for score in side(suite))

    before, after = seconds(lambda suite: suite.champion), seconds(lambda suite: suite.candidate)
    name, limit = "latency", limits.latency_ratio
    if before <= 0:
        return Check(name, None, None, limit, "how long the champion takes was not measured")
    ratio = round(after / before, _DIGITS)
    said = f"answers take {ratio:.2f} times as long as the champion's; they may take {limit:g} times"
    return Check(name, ratio <= limit, ratio, limit, said)


def _kl(kl: float | None, limits: GateSettings) -> Check:
    if kl is None:
        return Check("KL", None, None, limits.kl, "its training told no KL")
    return Check("KL", kl <= limits.kl, kl, limits.kl, f"its KL is {kl:.4g}; it may be {limits.kl:g}")
