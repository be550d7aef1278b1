"""The embedded Postgres, Valkey and S3: what the rest of the product relies on, seen through ordinary clients."""

import psycopg
import pytest
import redis
from botocore.exceptions import ClientError

from integrations.local.postgres import Postgres
from tests.conftest import S3

pytestmark = pytest.mark.stack


def test_postgres_is_18_asks_for_the_password_and_speaks_utf8(postgres_server: Postgres) -> None:
    with postgres_server.connect() as connection:
        version, encoding = connection.execute(
            "SELECT current_setting('server_version_num')::int, current_setting('server_encoding')"
        ).fetchone() or (0, "")
        assert int(str(version)) >= 180_000
        assert encoding == "UTF8"
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(postgres_server.url(driver="postgresql").replace(postgres_server.password, "wrong"))


def test_valkey_keeps_what_it_is_given(valkey_url: str) -> None:
    with redis.Redis.from_url(valkey_url) as client:
        assert client.config_get("appendonly") == {"appendonly": "yes"}
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    with pytest.raises(redis.AuthenticationError), redis.Redis.from_url(valkey_url.replace("@", "x@")) as stranger:
        stranger.ping()


def test_s3_serves_ranges_with_cors_and_makes_no_buckets_by_itself(s3: S3, prefix: str) -> None:
    client = s3.server.client()
    client.put_object(Bucket=s3.bucket, Key=prefix + "a", Body=b"0123456789")
    assert client.get_object(Bucket=s3.bucket, Key=prefix + "a", Range="bytes=2-4")["Body"].read() == b"234"
    assert client.get_bucket_cors(Bucket=s3.bucket)["CORSRules"][0]["AllowedMethods"] == ["GET", "HEAD"]
    with pytest.raises(ClientError):
        client.put_object(Bucket="some-other-bucket", Key="a", Body=b"")
