"""Weights in a real bucket and on this machine: by digest, checked, shared, bounded."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from backend.domain.errors import BadInput, Misconfigured, NotFound
from backend.profiles import load_profile
from backend.services import models, weights
from backend.services.weights import Manifest, WeightsCache
from backend.settings import StorageSettings
from integrations.s3.store import S3ObjectStore
from tests.conftest import S3

pytestmark = pytest.mark.stack

GIB = 1 << 30


@pytest.fixture
def storage(s3: S3, prefix: str) -> StorageSettings:
    return StorageSettings(
        endpoint_url=s3.endpoint_url, access_key_id=s3.access_key_id, secret_access_key=s3.secret_access_key,
        artifact_bucket=s3.bucket, artifact_prefix=prefix,
    )  # fmt: skip


@pytest.fixture
def store(storage: StorageSettings) -> S3ObjectStore:
    return S3ObjectStore(storage)


def folder(root: Path, **files: bytes) -> Path:
    for name, body in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
    return root


def cache_of(store: S3ObjectStore, storage: StorageSettings, at: Path, max_bytes: int = GIB) -> WeightsCache:
    return WeightsCache(store, storage, at, max_bytes / GIB)


def kept(at: Path) -> set[str]:
    return {path.name for path in at.iterdir() if path.is_dir()}


def test_weights_come_back_as_they_were(store: S3ObjectStore, storage: StorageSettings, tmp_path: Path) -> None:
    made = folder(tmp_path / "made", model=b"w" * 3000, deep__tokenizer=b"t", empty=b"")
    digest = weights.publish(store, storage, made)
    assert weights.publish(store, storage, made) == digest
    cache = cache_of(store, storage, tmp_path / "cache")
    with cache.held(digest) as path:
        found = {p.relative_to(path).as_posix(): p.read_bytes() for p in path.rglob("*") if p.is_file()}
    assert found == {"model": b"w" * 3000, "deep/tokenizer": b"t", "empty": b""}
    assert kept(tmp_path / "cache") == {digest}
    single = weights.publish(store, storage, made / "model")
    with cache.held(single) as path:
        assert path.read_bytes() == b"w" * 3000
    with pytest.raises(BadInput, match="no weights at"):
        weights.publish(store, storage, tmp_path / "nowhere")


def test_what_two_trainings_share_is_stored_once(
    store: S3ObjectStore, storage: StorageSettings, tmp_path: Path
) -> None:
    one = folder(tmp_path / "one", model=b"1", tokenizer=b"the same")
    other = folder(tmp_path / "other", model=b"2", tokenizer=b"the same")
    assert weights.publish(store, storage, one) != weights.publish(store, storage, other)
    assert len(list(store.list(storage.artifact_bucket, f"{storage.artifact_prefix}blobs/"))) == 3


def test_what_is_fetched_is_checked(store: S3ObjectStore, storage: StorageSettings, tmp_path: Path) -> None:
    made = folder(tmp_path / "made", model=b"weights")
    digest = weights.publish(store, storage, made)
    [blob] = store.list(storage.artifact_bucket, f"{storage.artifact_prefix}blobs/")
    store.put(storage.artifact_bucket, blob.key, b"WEIGHTS", "application/octet-stream")
    cache = cache_of(store, storage, tmp_path / "cache")
    with pytest.raises(Misconfigured, match=r"model of weights .* is not what it was"), cache.held(digest):
        pass
    assert kept(tmp_path / "cache") == set()
    [manifest] = store.list(storage.artifact_bucket, f"{storage.artifact_prefix}weights/")
    store.put(storage.artifact_bucket, manifest.key, b"{}", "application/json")
    with pytest.raises(Misconfigured, match="the manifest of weights"), cache.held(digest):
        pass
    with pytest.raises(NotFound, match="is not there"), cache.held("f" * 64):
        pass


def test_a_manifest_names_no_place_outside() -> None:
    for name in ("../x", "/etc/x", "a/../../x"):
        body = f'{{"files": [["{name}", 1, "0"]], "single": false}}'.encode()
        with pytest.raises(BadInput, match="must not lie at"):
            Manifest.from_bytes(body)


def test_those_unused_for_longest_go_first_and_none_that_is_held(
    store: S3ObjectStore, storage: StorageSettings, tmp_path: Path
) -> None:
    digests = [weights.publish(store, storage, folder(tmp_path / str(n), model=bytes([n]) * 100)) for n in range(4)]
    at = tmp_path / "cache"
    cache = cache_of(store, storage, at, max_bytes=250)
    for age, digest in enumerate(digests[:2]):
        with cache.held(digest):
            pass
        os.utime(at / digest, (1000 + age, 1000 + age))
    with cache.held(digests[0]):
        os.utime(at / digests[0], (1, 1))  # unused for longest, but held: the other has to go
        with cache.held(digests[2]):
            assert kept(at) == {digests[0], digests[2]}
        with cache.held(digests[0]):
            pass
    os.utime(at / digests[2], (1000, 1000))
    with cache.held(digests[3]):
        assert kept(at) == {digests[0], digests[3]}
    small = cache_of(store, storage, tmp_path / "small", max_bytes=50)
    with pytest.raises(Misconfigured, match=r"more than worker\.weights_max_gib"), small.held(digests[0]):
        pass


def test_of_many_that_want_the_same_weights_one_fetches_them(
    store: S3ObjectStore, storage: StorageSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = weights.publish(store, storage, folder(tmp_path / "made", model=b"w" * 10_000))
    fetched: list[str] = []
    download = S3ObjectStore.download
    monkeypatch.setattr(S3ObjectStore, "download", lambda s, v, p: (fetched.append(v.key), download(s, v, p)))
    start = threading.Barrier(6)

    def hold(_: int) -> bytes:
        start.wait()
        with cache_of(store, storage, tmp_path / "cache").held(digest) as path:
            return (path / "model").read_bytes()

    with ThreadPoolExecutor(6) as pool:
        assert set(pool.map(hold, range(6))) == {b"w" * 10_000}
    assert len(fetched) == 2  # the manifest and the file


def test_a_profile_published_is_the_same_wherever_it_is_fetched(
    store: S3ObjectStore, storage: StorageSettings, tmp_path: Path
) -> None:
    base = load_profile("shapeworld")
    own = base.system1.weights.path
    changed = folder(tmp_path / "new", config=b"{}")
    profile = models.publish_profile(store, storage, base, {"system1": changed}, "night 1")
    again = models.publish_profile(
        store, storage, base, {"system1": folder(tmp_path / "copy", config=b"{}")}, "night 1"
    )
    assert profile.digest == again.digest != base.digest
    assert {w.source for w in (profile.system1.weights, profile.system2.weights, profile.segmenter.weights) if w} == {
        "stored"
    }
    assert profile.system1.weights.trained_on == "night 1"
    cache = cache_of(store, storage, tmp_path / "cache")
    assert profile.system2.weights is not None
    with cache.held(profile.system2.weights.name) as path:
        assert (path / "config.json").read_bytes() == (own.parent / "system2" / "config.json").read_bytes()
    with cache.held(profile.segmenter.weights.name) as path:
        assert path.name == "model.safetensors"
    with pytest.raises(BadInput, match="no model 'system3'"):
        models.publish_profile(store, storage, base, {"system3": changed}, "night 1")
    with pytest.raises(Misconfigured, match="no place of their own"):
        _ = profile.system1.weights.path
