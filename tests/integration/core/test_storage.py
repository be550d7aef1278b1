"""The S3 adapter and the listing against a real S3 server."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import select, text

from backend.bootstrap import Container
from backend.db.tables import ProjectSource, Video
from backend.domain.errors import Misconfigured, NotFound, ObjectGone, ServiceUnavailable
from backend.services.reconcile import reconcile
from backend.settings import StorageSettings
from integrations.s3.store import S3ObjectStore
from tests.conftest import S3
from tests.factories import core

pytestmark = pytest.mark.stack


def _settings(s3: S3) -> StorageSettings:
    return StorageSettings(
        endpoint_url=s3.endpoint_url, access_key_id=s3.access_key_id, secret_access_key=s3.secret_access_key,
        artifact_bucket=s3.bucket,
    )  # fmt: skip


@pytest.fixture
def store(s3: S3) -> S3ObjectStore:
    return S3ObjectStore(_settings(s3))


@pytest.fixture
def watching(database_url: str, s3: S3, prefix: str) -> Iterator[Container]:
    made = Container(core.settings(database_url, storage=_settings(s3)))
    core.make_project(made, prefix=prefix)
    yield made
    made.close()


@pytest.mark.parametrize("name", ["plain.mp4", "a b+c%20&=?#.mp4", "вид 🎬/ü.mp4", "q'uote\"<>.mp4"])
def test_any_key_goes_there_and_back(store: S3ObjectStore, s3: S3, prefix: str, tmp_path: Path, name: str) -> None:
    put = store.put(s3.bucket, prefix + name, b"x" * 1000, "video/mp4")
    assert put.size_bytes == 1000
    assert store.head(s3.bucket, prefix + name) == put
    assert list(store.list(s3.bucket, prefix)) == [put]
    store.download(put, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == b"x" * 1000


def test_listing_goes_on_after_a_key(store: S3ObjectStore, s3: S3, prefix: str) -> None:
    for number in range(5):
        store.put(s3.bucket, f"{prefix}{number}.mp4", b"", "video/mp4")
    after = [version.key for version in store.list(s3.bucket, prefix, f"{prefix}2.mp4")]
    assert after == [f"{prefix}3.mp4", f"{prefix}4.mp4"]


def test_an_object_that_was_replaced_or_deleted_is_gone(
    store: S3ObjectStore, s3: S3, prefix: str, tmp_path: Path
) -> None:
    key = prefix + "a.mp4"
    old = store.put(s3.bucket, key, b"old", "video/mp4")
    new = store.put(s3.bucket, key, b"new!", "video/mp4")
    with pytest.raises(ObjectGone, match="deleted or replaced"):
        store.download(old, tmp_path / "file")
    store.download(new, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"new!"
    for missing in (
        lambda: store.head(s3.bucket, key + "x"),
        lambda: store.download(replace(new, key="x"), tmp_path / "y"),
    ):
        with pytest.raises(ObjectGone):
            missing()


def test_a_file_of_several_parts_has_one_version_everywhere(
    store: S3ObjectStore, s3: S3, prefix: str, tmp_path: Path
) -> None:
    big = tmp_path / "big"
    big.write_bytes(b"0123456789abcdef" * (20 << 16))
    put = store.upload(s3.bucket, prefix + "big.mp4", big, "video/mp4")
    assert put.size_bytes == big.stat().st_size
    assert list(store.list(s3.bucket, prefix)) == [put]
    store.download(put, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == big.read_bytes()


def test_a_bucket_with_versions_is_listed_by_its_newest(store: S3ObjectStore, s3: S3, tmp_path: Path) -> None:
    bucket, client = f"versions-{uuid4().hex[:8]}", s3.server.client()
    client.create_bucket(Bucket=bucket)
    client.put_object(Bucket=bucket, Key="a.mp4", Body=b"before versions")
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    first = store.put(bucket, "b.mp4", b"first", "video/mp4")
    second = store.put(bucket, "b.mp4", b"second", "video/mp4")
    store.put(bucket, "c.mp4", b"deleted", "video/mp4")
    client.delete_object(Bucket=bucket, Key="c.mp4")
    assert first.version != first.etag
    assert list(store.list(bucket, "")) == [store.head(bucket, "a.mp4"), second]
    assert list(store.list(bucket, "", "a.mp4")) == [second]
    assert store.head(bucket, "b.mp4") == second
    store.download(first, tmp_path / "first")
    assert (tmp_path / "first").read_bytes() == b"first"


def test_failures_say_what_is_wrong(store: S3ObjectStore, s3: S3) -> None:
    with pytest.raises(NotFound, match="no bucket"):
        list(store.list("no-such-bucket", ""))
    with pytest.raises(NotFound, match="no bucket"):
        store.check("no-such-bucket")
    store.check(s3.bucket)
    stranger = S3ObjectStore(
        StorageSettings(endpoint_url=s3.endpoint_url, access_key_id="nobody", secret_access_key="wrong")
    )
    with pytest.raises(Misconfigured, match="refuses"):
        stranger.head(s3.bucket, "x.mp4")
    away = S3ObjectStore(StorageSettings(endpoint_url="http://127.0.0.1:9", access_key_id="a", secret_access_key="b"))
    with pytest.raises(ServiceUnavailable, match="can't be reached"):
        away.head(s3.bucket, "x.mp4")


def _reconcile(container: Container) -> int:
    return reconcile(container.sessions, container.store, container.settings.ingest, container.run_spec)


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every source that holds anything counts as a large one."""
    monkeypatch.setattr("backend.services.reconcile._PAGE", 0)


@pytest.mark.usefixtures("small_pages")
def test_the_listing_finds_what_no_event_told(watching: Container, s3: S3, prefix: str) -> None:
    for name in ("m.mp4", "n.mp4", "notes.txt"):
        watching.store.put(s3.bucket, prefix + name, name.encode(), "video/mp4")
    told = core.take_in(watching, watching.store.head(s3.bucket, prefix + "m.mp4"))
    assert told.created
    assert _reconcile(watching) == 1
    assert _reconcile(watching) == 0
    watching.store.put(s3.bucket, prefix + "z.mp4", b"z", "video/mp4")
    assert _reconcile(watching) == 1
    with watching.sessions() as session:
        keys = session.scalars(select(Video.key).order_by(Video.id)).all()
        assert session.scalars(select(ProjectSource.listed_until_key)).one() == prefix + "z.mp4"
    assert keys == [prefix + name for name in ("m.mp4", "n.mp4", "z.mp4")]


def test_a_source_of_one_page_is_listed_whole_each_time(watching: Container, s3: S3, prefix: str) -> None:
    watching.store.put(s3.bucket, prefix + "m.mp4", b"m", "video/mp4")
    assert _reconcile(watching) == 1
    watching.store.put(s3.bucket, prefix + "a.mp4", b"a", "video/mp4")
    watching.store.put(s3.bucket, prefix + "m.mp4", b"replaced", "video/mp4")
    assert _reconcile(watching) == 2
    assert _reconcile(watching) == 0


@pytest.mark.usefixtures("small_pages")
def test_a_sweep_finds_what_is_named_before_the_checkpoint(watching: Container, s3: S3, prefix: str) -> None:
    watching.store.put(s3.bucket, prefix + "m.mp4", b"m", "video/mp4")
    assert _reconcile(watching) == 1
    watching.store.put(s3.bucket, prefix + "a.mp4", b"a", "video/mp4")
    watching.store.put(s3.bucket, prefix + "m.mp4", b"replaced", "video/mp4")
    assert _reconcile(watching) == 0
    with watching.engine.begin() as connection:
        connection.execute(text("UPDATE project_sources SET swept_at = now() - interval '1 day'"))
    assert _reconcile(watching) == 2


def test_a_bucket_that_is_not_there_keeps_no_other_from_being_seen(
    watching: Container, s3: S3, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    with watching.engine.begin() as connection:
        connection.execute(text("UPDATE project_sources SET bucket = 'no-such-bucket'"))
    core.make_project(watching, "second", prefix=prefix)
    watching.store.put(s3.bucket, prefix + "m.mp4", b"m", "video/mp4")
    assert _reconcile(watching) == 1
    assert "no-such-bucket" in caplog.text
