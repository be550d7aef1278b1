"""A container over a database of the test's own; the broker is dead unless a test brings one."""

from collections.abc import Iterator

import pytest

from backend.bootstrap import Container
from tests.factories import core


@pytest.fixture
def container(database_url: str) -> Iterator[Container]:
    made = Container(core.settings(database_url))
    yield made
    made.close()
