"""Data sets of the project that `tests.factories.reviewed` makes, and what is in them."""

from backend.bootstrap import Container
from backend.db.tables import Dataset
from backend.domain.datasets import DatasetItem, Split
from backend.services import dataset_files, datasets
from backend.services.selection import FreezeQuery

CUPS = FreezeQuery(projects=("cups",))


def freeze(container: Container, query: FreezeQuery = CUPS) -> Dataset:
    return datasets.freeze(container.workshop, query)


def items(container: Container, dataset: Dataset, split: Split = Split.TRAIN) -> list[DatasetItem]:
    return list(dataset_files.read_items(container.store, container.settings.storage, dataset, split))


def sides(container: Container, dataset: Dataset) -> dict[Split, list[int]]:
    """The seeds of the videos on each side."""
    return {
        split: sorted(
            int(item.provenance.source_uri.rsplit("-", 1)[1].removesuffix(".mp4"))
            for item in items(container, dataset, split)
        )
        for split in (Split.TRAIN, Split.HOLDOUT)
    }
