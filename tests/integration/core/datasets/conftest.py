"""A project whose reviews are frozen."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from backend.bootstrap import Container
from tests.conftest import S3
from tests.factories.reviewed import ReviewedProject, make_container


@pytest.fixture
def container(database_url: str, s3: S3, prefix: str) -> Iterator[Container]:
    made = make_container(database_url, s3, prefix)
    yield made
    made.close()


@pytest.fixture
def project(container: Container, prefix: str, tmp_path: Path) -> ReviewedProject:
    return ReviewedProject(container, prefix, tmp_path).create("the cup")
