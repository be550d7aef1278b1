"""Weights in the artifact bucket, known by their digest: put there once, fetched and checked by whoever needs them.

They are a folder, or one file. Its manifest names each file with its size and SHA-256; the digest is that of the
manifest. Files are kept by their own SHA-256, so that what two trainings share (a tokenizer) lies there once.
"""

import fcntl
import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from backend.domain.errors import BadInput, Misconfigured, NotFound, ObjectGone
from backend.ports.storage import ObjectStore
from backend.settings import StorageSettings

log = logging.getLogger(__name__)

_MANIFEST = "manifest.json"
_FILES = "files"
_BYTES_A_GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class WeightsFile:
    """`path` is relative, with slashes."""

    path: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """`single`: the weights are the one file itself, not a folder that holds it."""

    files: tuple[WeightsFile, ...]
    single: bool

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)

    def to_bytes(self) -> bytes:
        rows = [[file.path, file.size_bytes, file.sha256] for file in self.files]
        return json.dumps({"files": rows, "single": self.single}, sort_keys=True).encode()

    @classmethod
    def from_bytes(cls, body: bytes) -> "Manifest":
        said = json.loads(body)
        files = tuple(WeightsFile(*row) for row in said["files"])
        for file in files:
            # It becomes a path on this machine.
            parts = PurePosixPath(file.path)
            if parts.is_absolute() or ".." in parts.parts:
                raise BadInput(f"a file of weights must not lie at {file.path!r}", code="bad_weights")
        return cls(files, said["single"])

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.to_bytes()).hexdigest()


def publish(store: ObjectStore, storage: StorageSettings, path: Path) -> str:
    """Put weights (a folder or a file) into the artifact bucket; their digest. What is there is not sent again.

    Raises `BadInput` if there is nothing at `path`; `ServiceUnavailable`.
    """
    manifest = _manifest_of(path)
    for file in manifest.files:
        key = _blob_key(storage, file.sha256)
        if not _is_there(store, storage, key, file.size_bytes):
            source = path if manifest.single else path / file.path
            store.upload(storage.artifact_bucket, key, source, "application/octet-stream")
    # Last: where there is a manifest there are its files.
    store.put(storage.artifact_bucket, _manifest_key(storage, manifest.digest), manifest.to_bytes(), "application/json")
    return manifest.digest


def uri_of(storage: StorageSettings, digest: str) -> str:
    return f"s3://{storage.artifact_bucket}/{_manifest_key(storage, digest)}"


def _manifest_of(path: Path) -> Manifest:
    paths = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    if not paths:
        raise BadInput(f"there are no weights at {path}", code="no_weights")
    names = [path.name] if path.is_file() else [p.relative_to(path).as_posix() for p in paths]
    files = [WeightsFile(n, p.stat().st_size, _sha256(p)) for n, p in zip(names, paths, strict=True)]
    return Manifest(tuple(sorted(files, key=lambda file: file.path)), single=path.is_file())


def _is_there(store: ObjectStore, storage: StorageSettings, key: str, size_bytes: int) -> bool:
    try:
        return store.head(storage.artifact_bucket, key).size_bytes == size_bytes
    except ObjectGone:
        return False


def _manifest_key(storage: StorageSettings, digest: str) -> str:
    return f"{storage.artifact_prefix}weights/{digest}.json"


def _blob_key(storage: StorageSettings, sha256: str) -> str:
    return f"{storage.artifact_prefix}blobs/{sha256}"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class WeightsCache:
    """Weights on this machine, shared by its processes. An entry that is held is not removed."""

    def __init__(self, store: ObjectStore, storage: StorageSettings, folder: Path, max_gib: float) -> None:
        self._store, self._storage = store, storage
        self._folder, self._max_bytes = folder, int(max_gib * _BYTES_A_GIB)

    @contextmanager
    def held(self, digest: str) -> Iterator[Path]:
        """The folder (or file), whole and checked, for as long as it is held.

        Raises `NotFound` if the bucket has no such weights, `Misconfigured` if what it has is not what the digest
        says, or the cache is too small for it, `ServiceUnavailable`.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / f"{digest}.lock").open("a") as lock:
            entry = self._folder / digest
            fcntl.flock(lock, fcntl.LOCK_SH)
            while not entry.is_dir():
                # Not upgraded in one step, so whoever was first has fetched it meanwhile, or it went again.
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not entry.is_dir():
                    self._fetch(digest, entry)
                fcntl.flock(lock, fcntl.LOCK_SH)
            os.utime(entry)
            manifest = Manifest.from_bytes((entry / _MANIFEST).read_bytes())
            yield entry / _FILES / manifest.files[0].path if manifest.single else entry / _FILES

    def _fetch(self, digest: str, entry: Path) -> None:
        with tempfile.TemporaryDirectory(prefix=".fetching-", dir=self._folder) as made:
            folder = Path(made)
            manifest = self._fetch_manifest(digest, folder / _MANIFEST)
            self._make_room(manifest.size_bytes, digest)
            for file in manifest.files:
                target = folder / _FILES / file.path
                target.parent.mkdir(parents=True, exist_ok=True)
                self._download(_blob_key(self._storage, file.sha256), target)
                if target.stat().st_size != file.size_bytes or _sha256(target) != file.sha256:
                    raise Misconfigured(f"{file.path} of weights {digest} is not what it was", code="weights_changed")
            folder.rename(entry)
        log.info("weights %s fetched, %.1f MB", digest[:12], manifest.size_bytes / 1e6)

    def _fetch_manifest(self, digest: str, path: Path) -> Manifest:
        self._download(_manifest_key(self._storage, digest), path)
        if _sha256(path) != digest:
            raise Misconfigured(f"the manifest of weights {digest} is not what it was", code="weights_changed")
        return Manifest.from_bytes(path.read_bytes())

    def _download(self, key: str, path: Path) -> None:
        try:
            self._store.download(self._store.head(self._storage.artifact_bucket, key), path)
        except ObjectGone as error:
            raise NotFound(f"s3://{self._storage.artifact_bucket}/{key} is not there", code="no_weights") from error

    def _make_room(self, size_bytes: int, digest: str) -> None:
        """Remove what was unused for longest until so much fits."""
        if size_bytes > self._max_bytes:
            raise Misconfigured(
                f"weights {digest[:12]} have {size_bytes / _BYTES_A_GIB:.2f} GiB, more than worker.weights_max_gib"
            )
        entries = [p for p in self._folder.iterdir() if p.is_dir() and not p.name.startswith(".")]
        sizes = {entry: _size_of(entry) for entry in entries}
        free = self._max_bytes - sum(sizes.values())
        for entry in sorted(entries, key=lambda p: p.stat().st_mtime):
            if free >= size_bytes:
                return
            if self._remove(entry):
                free += sizes[entry]
        if free < size_bytes:
            log.warning("the weights in %s are all in use: it grows beyond its limit", self._folder)

    def _remove(self, entry: Path) -> bool:
        """False: somebody holds it."""
        with (self._folder / f"{entry.name}.lock").open("a") as lock:
            if not _locked(lock):
                return False
            shutil.rmtree(entry)
            return True


def _locked(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _size_of(entry: Path) -> int:
    return Manifest.from_bytes((entry / _MANIFEST).read_bytes()).size_bytes
