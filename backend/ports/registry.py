"""Where people look for models and their curves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class RegisteredVersion:
    """A model version as a registry shows it. `source_uri`: where its weights or its profile lie; `tags`: whatever else
    a person may look for."""

    name: str
    digest: str
    source_uri: str
    description: str
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Curves:
    """What a training wrote down: by name, (step, value) in order; and what it was run with."""

    run_name: str
    parameters: Mapping[str, str]
    values: Mapping[str, Sequence[tuple[int, float]]]


class ModelRegistry(Protocol):
    """Where people look for models and their curves. It mirrors our database, which decides; so it may be behind."""

    def register(self, version: RegisteredVersion, curves: Curves | None = None) -> None:
        """Idempotent by digest. Raises `ServiceUnavailable`."""

    def set_aliases(self, name: str, digests: Mapping[str, str | None]) -> None:
        """Give each alias to the registered version of that digest, None: to none. Raises `ServiceUnavailable`, and
        `NotFound` for a version that was never registered."""

    def aliases(self, name: str) -> dict[str, str]:
        """The digest that each alias leads to. Raises `ServiceUnavailable`."""
