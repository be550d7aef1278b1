"""Queries: what an instruction asks, in a form that can be answered by measuring. No wording, no scene."""

from dataclasses import dataclass
from enum import StrEnum

from workers.shapeworld.world.things import Look


class Kind(StrEnum):
    """What an instruction asks for. `ABSENT` has the wording of any other kind, and nothing that it fits."""

    ATTRIBUTE = "attribute"
    PLURAL = "plural"
    RELATION = "relation"
    FASTEST = "fastest"
    APPEARS_LAST = "appears_last"
    LEAVES = "leaves"
    DIRECTION = "direction"
    PASSES_BEHIND = "passes_behind"
    SOUND = "sound"
    ABSENT = "absent"


#: Kinds with a wording of their own.
ASKED_KINDS = tuple(kind for kind in Kind if kind is not Kind.ABSENT)
SIDES = ("left", "right", "above", "below")


@dataclass(frozen=True, slots=True)
class Query:
    """`look` is the thing itself (attribute, plural) or the one it is set against (relation, passes behind); `toward`
    is the side or the direction."""

    kind: Kind
    look: Look | None = None
    toward: str | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """An instruction about a scene, and its answer.

    `targets` are indices of things, empty where the honest answer is that there is none; `description` names them by
    what one picture shows (empty with them). `query.kind` is the kind whose wording is used.
    """

    kind: Kind
    query: Query
    mode: str
    text: str
    targets: tuple[int, ...]
    description: str
