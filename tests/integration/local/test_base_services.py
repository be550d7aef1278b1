"""The embedded Postgres, Valkey and S3: what the rest of the product relies on, seen through ordinary clients."""

import json
import queue
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from botocore.exceptions import ClientError

from integrations.local import seaweedfs
from integrations.local.ports import LOOPBACK
from integrations.local.postgres import Postgres
from integrations.local.service import running
from integrations.local.state import StateDir
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


def test_a_put_is_announced_with_the_token(tmp_path: Path) -> None:
    heard: queue.Queue[tuple[str, str | None, dict[str, Any]]] = queue.Queue()

    class Listener(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            heard.put((self.path, self.headers["Authorization"], json.loads(body)))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    state = StateDir(tmp_path, well_known_ports=False)
    with ThreadingHTTPServer((LOOPBACK, 0), Listener) as listener:
        threading.Thread(target=listener.serve_forever, daemon=True).start()
        url = f"http://{LOOPBACK}:{listener.server_port}/events"
        store = seaweedfs.prepare(state, webhook_url=url, webhook_token="the-token")
        with running(seaweedfs.service(store, state.log("s3"))):
            store.client().put_object(Bucket=store.bucket, Key="videos/a clip.mp4", Body=b"video")
            while True:
                path, authorization, body = heard.get(timeout=10)
                assert (path, authorization) == ("/events", "Bearer the-token")
                if body["key"] == "/buckets/premask/videos/a clip.mp4":
                    break
        listener.shutdown()
    assert body["event_type"] == "create"
    assert body["message"]["new_entry"]["attributes"]["file_size"] == 5
