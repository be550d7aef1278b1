"""In which order people are to see tasks."""

from enum import StrEnum


class TaskOrder(StrEnum):
    """`UNCERTAIN`: those whose pre-annotation has the lowest score first, where a look is worth most."""

    UNCERTAIN = "uncertain"
    OLDEST = "oldest"
    NEWEST = "newest"
