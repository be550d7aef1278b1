"""Figures of many clips: means and shares with 95% intervals, over all clips and for each level."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from workers.evaluation.intervals import Figure, mean, share
from workers.shapeworld.evaluation.scores import ClipScore
from workers.shapeworld.world.levels import LEVELS
from workers.shapeworld.world.queries import Kind


def figures(scores: Sequence[ClipScore]) -> dict[str, Any]:
    """Everything with its interval, and the same again under "levels"."""
    present = {score.case.level for score in scores}
    levels = [level for level in LEVELS if level in present]
    by_level = {level: overall([s for s in scores if s.case.level == level]) for level in levels}
    return overall(scores) | {"levels": by_level}


def flat(figures: dict[str, Any]) -> dict[tuple[str, ...], dict[str, Any]]:
    """The figures over all levels by their path, as ("system1", "format")."""
    return dict(_leaves((), {key: node for key, node in figures.items() if key not in ("n", "levels")}))


def _leaves(path: tuple[str, ...], node: dict[str, Any]) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    if set(node) == set(Figure.__dataclass_fields__):
        yield path, node
        return
    for key, child in node.items():
        yield from _leaves((*path, key), child)


def overall(scores: Sequence[ClipScore]) -> dict[str, Any]:
    """Over all clips alone. A model that wasn't measured has figures of no clips."""
    run = [s for s in scores if s.seconds is not None]
    looked = [s for s in scores if s.well_formed is not None]
    jf = _grouped(run, lambda s: s.case.kind, lambda s: _mean_of(s.pipeline_j, s.pipeline_f))
    followed = [s for s in scores if s.segmenter_j is not None]
    return {
        "n": len(scores),
        "segmenter": {
            "j": mean([s.segmenter_j or 0.0 for s in followed]).to_json(),
            "jf": mean([_mean_of(s.segmenter_j, s.segmenter_f) for s in followed]).to_json(),
        },
        "system2": {
            "acc50": _each(share, _grouped(_boxed(scores, False), lambda s: s.things_seen, lambda s: s.box_hit)),
            "plural": share([bool(s.box_hit) for s in _boxed(scores, True)]).to_json(),
        },
        "system1": {
            "format": share([bool(s.well_formed) for s in looked]).to_json(),
            "keyframes_visible": share([shown for s in looked for shown in s.keyframes_visible]).to_json(),
            "description": _each(share, _grouped(looked, lambda s: s.case.kind, lambda s: s.described)),
        },
        "pipeline": {
            "jf": _each(mean, jf) | {"all": mean([value for values in jf.values() for value in values]).to_json()},
            "seconds_per_clip": mean([s.seconds or 0.0 for s in run]).to_json(),
            "seconds_per_clip_second": mean([(s.seconds or 0.0) / s.duration_s for s in run]).to_json(),
        },
    }


def _mean_of(j: float | None, f: float | None) -> float:
    assert j is not None
    assert f is not None
    return (j + f) / 2


def _boxed(scores: Iterable[ClipScore], plural: bool) -> list[ClipScore]:
    return [s for s in scores if s.box_hit is not None and (s.case.kind is Kind.PLURAL) == plural]


def _grouped(
    scores: Iterable[ClipScore], key: Callable[[ClipScore], Any], value: Callable[[ClipScore], Any]
) -> dict[str, list[Any]]:
    groups: dict[str, list[Any]] = defaultdict(list)
    for score in scores:
        groups[str(key(score))].append(value(score))
    return groups


def _each(measure: Callable[[Any], Figure], groups: dict[str, list[Any]]) -> dict[str, Any]:
    return {key: measure(values).to_json() for key, values in sorted(groups.items())}
