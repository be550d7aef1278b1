"""Adopting a project of the labeling tool that somebody else made: what there is to agree to, and what was agreed.

Nothing of theirs is changed that is not named here and was not asked for: tasks, annotations, labels and settings stay,
predictions are added.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from backend.domain.errors import BadInput


class Change(StrEnum):
    """What may be agreed to, each by itself. The first four change their project once; `NEW_TASKS` lets tasks be made
    for videos that have none there, `READ_ANNOTATIONS` has reviews made of annotations that were there before."""

    WEBHOOK = "webhook"
    STORAGE = "storage"
    CONFIG = "config"
    SHOW_PREDICTIONS = "show-predictions"
    NEW_TASKS = "new-tasks"
    READ_ANNOTATIONS = "read-annotations"


@dataclass(frozen=True, slots=True)
class PlaceTask:
    """A task that is there. `video_uri`: s3://bucket/key, or its address as it stands there; `annotation_ids`: of all
    its annotations."""

    task_id: int
    video_uri: str | None
    annotation_ids: tuple[int, ...]
    changed_at: datetime


@dataclass(frozen=True, slots=True)
class Place:
    """A project of the labeling tool as it is. `box_labels` and `mask_labels`: what boxes and masks can be called
    there, empty where it can't show them; `maps` says which of its tags show what, `missing` what can't be shown and
    why; `unfilled`: fields of its tasks that we have nothing for; `changes`: what each change would do, without those
    there is no need for."""

    project_id: int
    title: str
    box_labels: tuple[str, ...]
    mask_labels: tuple[str, ...]
    maps: tuple[str, ...]
    missing: tuple[str, ...]
    unfilled: tuple[str, ...]
    tasks: tuple[PlaceTask, ...]
    changes: Mapping[Change, str]


@dataclass(frozen=True, slots=True)
class Adopted:
    """How a result goes into an adopted project. `task_id`: the task of theirs that is used; none: one is made, where
    that was agreed. `label`: what its things are called there; none: its only label, or the one of the track's name.
    """

    task_id: int | None
    label: str | None
    changes: frozenset[Change]


def agreed_in(adoption: Mapping[str, Any] | None) -> frozenset[Change]:
    """The changes that were agreed to, as a project keeps them."""
    return frozenset(Change(name) for name in (adoption or {}).get("changes", ()))


def assigned_labels(
    instructions: Sequence[str], given: Mapping[str, str], known: Mapping[str, str | None], labels: Sequence[str]
) -> dict[str, str]:
    """The label of each instruction: the one given, the one it has (`known`), the one of its own name, or the only one.

    Raises `BadInput` for an instruction without a label, for a label that isn't there, and for what is no instruction.
    """
    if strangers := set(given) - set(instructions):
        raise BadInput(f"no instruction of the project is called {_listed(strangers)}", code="unknown_instruction")
    if not labels:
        return {}
    by_name = {label.casefold(): label for label in labels}
    only = labels[0] if len(labels) == 1 else None
    found = {}
    for text in instructions:
        label = given.get(text) or known.get(text) or by_name.get(text.strip().casefold()) or only
        if label is None or label not in labels:
            said = "has no label" if label is None else f"is to be labelled {label!r}, which is none of theirs"
            raise BadInput(
                f'the instruction {text!r} {said}; choose one with --label "{text}=…": {_listed(labels)}',
                code="unknown_label",
            )
        found[text] = label
    return found


def _listed(words: Iterable[str]) -> str:
    return ", ".join(repr(word) for word in words)
