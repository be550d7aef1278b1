"""A data set's files: manifests and `dataset.json` in the artifact bucket, its media beside them; put, read, checked.

datasets/<digest>/train.parquet     a row an item that may be trained on
datasets/<digest>/holdout.parquet   a row an item that is only ever measured on
datasets/<digest>/dataset.json      what was asked for, what came of it
media/<ab>/<sha256>                 the videos, each once for all data sets
"""

import hashlib
import json
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from backend.db.tables import Dataset
from backend.domain.datasets import DatasetItem, Split, digest_of
from backend.domain.errors import BadInput, ObjectGone
from backend.ports.storage import ObjectStore
from backend.services.manifests import read_manifest, write_manifest
from backend.settings import StorageSettings

#: Those a data set has a manifest of.
SPLITS = (Split.TRAIN, Split.HOLDOUT)
DESCRIPTION = "dataset.json"


def put_manifests(
    store: ObjectStore, storage: StorageSettings, digest: str, items: Sequence[DatasetItem]
) -> dict[str, dict[str, Any]]:
    """Write a manifest for each split; what and where they are, by split."""
    files = {}
    for split in SPLITS:
        rows = [item for item in items if item.split is split]
        body = write_manifest(rows)
        sha256 = hashlib.sha256(body).hexdigest()
        # Named by its bytes too: of two freezes that end in one digest neither writes over what the other recorded.
        key = _key(storage, digest, f"{split}-{sha256[:12]}.parquet")
        store.put(storage.artifact_bucket, key, body, "application/vnd.apache.parquet")
        files[split.value] = {"key": key, "sha256": sha256, "rows": len(rows)}
    return files


def put_description(store: ObjectStore, storage: StorageSettings, dataset: Dataset) -> None:
    """Write `dataset.json`."""
    body = json.dumps(described(dataset), indent=2, sort_keys=True).encode()
    store.put(storage.artifact_bucket, _key(storage, dataset.digest, DESCRIPTION), body, "application/json")


def described(dataset: Dataset) -> dict[str, Any]:
    """What `dataset.json` says."""
    return {
        "digest": dataset.digest, "parent": dataset.parent_digest, "origin": dataset.origin, "query": dataset.query,
        "seed": dataset.query.get("seed"), "counts": dataset.counts, "files": dataset.files,
        "code_version": dataset.code_version, "created_at": dataset.created_at.isoformat(),
    }  # fmt: skip


def read_items(store: ObjectStore, storage: StorageSettings, dataset: Dataset, split: Split) -> Iterator[DatasetItem]:
    """The items of a split. Raises `BadInput` where the manifest isn't the one that was frozen, `ObjectGone`."""
    yield from read_manifest(_manifest(store, storage, dataset, split))


def fetch(store: ObjectStore, storage: StorageSettings, dataset: Dataset, folder: Path) -> int:
    """Have the data set in the folder: `train.parquet`, `holdout.parquet` and the videos as `media/<sha256>`; what is
    there isn't fetched again. The number of items. Raises as `read_items` and `fetch_media`."""
    count = 0
    for split in SPLITS:
        body = _manifest(store, storage, dataset, split)
        items = list(read_manifest(body))
        fetch_media(store, storage, items, folder / "media")
        # Last: a folder with its manifests is whole.
        (folder / f"{split.value}.parquet").write_bytes(body)
        count += len(items)
    return count


def _manifest(store: ObjectStore, storage: StorageSettings, dataset: Dataset, split: Split) -> bytes:
    said = dataset.files[split.value]
    with tempfile.TemporaryDirectory(prefix="premask-manifest-") as folder:
        path = Path(folder) / "manifest"
        store.download(store.head(storage.artifact_bucket, said["key"]), path)
        body = path.read_bytes()
    if hashlib.sha256(body).hexdigest() != said["sha256"]:
        raise BadInput(
            f"s3://{storage.artifact_bucket}/{said['key']} is not what was frozen: its SHA-256 is another",
            code="manifest_changed",
        )
    return body


def fetch_media(store: ObjectStore, storage: StorageSettings, items: Iterable[DatasetItem], folder: Path) -> None:
    """Have the videos of the items in the folder, each under its SHA-256; those that are there aren't fetched again.

    Raises `ObjectGone`, and `BadInput` for one that holds other bytes than its name says.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for sha256, key in sorted({(item.media_sha256, item.media_key) for item in items}):
        if (folder / sha256).exists():
            continue
        part = folder / f"{sha256}.part"
        store.download(store.head(storage.artifact_bucket, key), part)
        _check_bytes(part, sha256, f"s3://{storage.artifact_bucket}/{key}")
        part.rename(folder / sha256)


def problems(store: ObjectStore, storage: StorageSettings, dataset: Dataset, deep: bool) -> list[str]:
    """What is wrong with a data set's files; `deep` reads every video too, and not only its size."""
    found, items = [], []
    for split in SPLITS:
        try:
            items += list(read_items(store, storage, dataset, split))
        except (BadInput, ObjectGone) as error:
            found.append(str(error))
    if found:
        return found
    if digest_of(items, {"origin": dataset.origin, "query": dataset.query}) != dataset.digest:
        found.append(f"the items are not those of data set {dataset.digest}")
    for item in {item.media_sha256: item for item in items}.values():
        try:
            _check_media(store, storage, item, deep)
        except (BadInput, ObjectGone) as error:
            found.append(str(error))
    if not is_there(store, storage.artifact_bucket, _key(storage, dataset.digest, DESCRIPTION)):
        found.append(f"{DESCRIPTION} is gone: freezing the same query again writes it")
    return found


def is_there(store: ObjectStore, bucket: str, key: str) -> bool:
    try:
        store.head(bucket, key)
    except ObjectGone:
        return False
    return True


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_media(store: ObjectStore, storage: StorageSettings, item: DatasetItem, deep: bool) -> None:
    version = store.head(storage.artifact_bucket, item.media_key)
    where = f"s3://{version.bucket}/{version.key}"
    if version.size_bytes != item.media_size_bytes:
        raise BadInput(f"{where} has {version.size_bytes} bytes, not {item.media_size_bytes}", code="media_changed")
    if deep:
        with tempfile.TemporaryDirectory(prefix="premask-media-") as folder:
            path = Path(folder) / "video"
            store.download(version, path)
            _check_bytes(path, item.media_sha256, where)


def _check_bytes(path: Path, sha256: str, where: str) -> None:
    found = sha256_of(path)
    if found != sha256:
        path.unlink()
        raise BadInput(f"{where} holds other bytes than were frozen: its SHA-256 is {found[:12]}", code="media_changed")


def _key(storage: StorageSettings, digest: str, name: str) -> str:
    return f"{storage.artifact_prefix}datasets/{digest}/{name}"
