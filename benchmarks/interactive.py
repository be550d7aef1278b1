"""How long a labeler waits for a mask: through the API, as Label Studio asks it.

`python -m benchmarks.interactive`: the API and the process that draws, with Postgres, Valkey and S3 of their own; pages
of the synthetic world whose shorter side has 720 px, the small model. First clicks on pages that were never looked at,
further clicks and boxes on pages that were. Label Studio's own part, between the browser and our API, comes on top.
Prints milliseconds, and last one JSON line; the ratio is 2 s over the 95th percentile, where it is larger.
"""

import base64
import json
import os
import statistics
import tempfile
import time
from collections.abc import Mapping
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import SecretStr

from backend.bootstrap import Container
from backend.db.migrate import upgrade
from backend.domain.masks import encode_mask
from backend.settings import BrokerSettings, DatabaseSettings, Settings, StorageSettings
from integrations.local import postgres, seaweedfs, valkey
from integrations.local.app import api_command, masks_command
from integrations.local.label_studio import answers
from integrations.local.ports import LOOPBACK
from integrations.local.service import Service, running
from integrations.local.state import StateDir
from tests.factories import clickable
from tests.factories.clickable import Clickable, box_region, click_regions, middle_of, png, predict_body

TARGET_S, SIDE_PX = 2.0, 720
SEEDS, AGAIN = 24, 2
#: A thing is clicked on where so much of it is seen.
_SEEN_PX = 1000
SECRET = "benchmark"
HEADERS = {
    "Authorization": "Basic " + base64.b64encode(f"premask:{SECRET}".encode()).decode(),
    "Content-Type": "application/json",
}


def _ask_ms(port: int, regions: list[Any]) -> float:
    """One question on a connection of its own, as Label Studio asks; it must bring a mask."""
    body = json.dumps(predict_body(regions))
    begin = time.perf_counter()
    connection = HTTPConnection(LOOPBACK, port, timeout=60)
    connection.request("POST", "/interactive/predict", body, HEADERS)
    answer = connection.getresponse()
    said = answer.read()
    connection.close()
    spent = time.perf_counter() - begin
    if answer.status != 200 or not json.loads(said)["results"][0]["result"]:
        raise SystemExit(f"no mask, but {answer.status}: {said[:500]!r}")
    return spent * 1000


def _questions(run: Clickable) -> list[tuple[str, list[Any]]]:
    """First clicks, then further ones: one, two, and a box, on each page."""
    first, further = list[tuple[str, list[Any]]](), list[tuple[str, list[Any]]]()
    for page in range(len(clickable.PAGES)):
        numbers = range(1, int(run.pictures[page].labels.max()) + 1)
        seen = [thing for number in numbers if (thing := run.thing(page, number)).sum() > _SEEN_PX]
        clicks = [click_regions(middle_of(thing), run.size, page, n)[0] for n, thing in enumerate(seen[:2])]
        if not clicks:
            continue
        box = box_region(encode_mask(seen[0]).box_xyxy_px, run.size, page)
        first.append(("first click on a page", clicks[:1]))
        for _ in range(AGAIN):
            further.append(("another click on it", clicks[-1:]))
            further.append(("two clicks", clicks))
            further.append(("a box", [box]))
    return first + further


def _measure(port: int, container: Container) -> dict[str, list[float]]:
    spent: dict[str, list[float]] = {}
    run = clickable.published(container, "clicks/", side_px=SIDE_PX)
    bucket = container.settings.storage.artifact_bucket
    for seed in range(SEEDS):
        # Other pictures in the same places: none was looked at before.
        shown = clickable.pictures(seed, SIDE_PX)
        if shown[0].labels.shape != run.pictures[0].labels.shape:
            continue
        for frame, picture in zip(clickable.PAGES, shown, strict=True):
            container.store.put(bucket, run.image_keys[frame], png(picture.image), "image/png")
        for name, regions in _questions(Clickable(container, run.run_id, shown, run.image_keys)):
            spent.setdefault(name, []).append(_ask_ms(port, regions))
    return spent


def _figures(values_ms: list[float]) -> dict[str, float]:
    p95_ms = statistics.quantiles(values_ms, n=20)[18]
    return {
        "n": len(values_ms), "median_ms": round(statistics.median(values_ms), 1), "p95_ms": round(p95_ms, 1),
        "longest_ms": round(max(values_ms), 1),
    }  # fmt: skip


def _settings(
    database: postgres.Postgres, broker: valkey.Valkey, store: seaweedfs.SeaweedFS, masks_port: int
) -> tuple[Settings, Mapping[str, str]]:
    settings = Settings(
        database=DatabaseSettings(url=SecretStr(database.url())),
        broker=BrokerSettings(url=SecretStr(broker.url)),
        storage=StorageSettings(
            endpoint_url=store.endpoint_url, region=seaweedfs.REGION, artifact_bucket=store.bucket,
            access_key_id=SecretStr(store.access_key_id), secret_access_key=SecretStr(store.secret_access_key),
        ),
    )  # fmt: skip
    environment = {
        **os.environ,
        "PREMASK__DATABASE__URL": database.url(),
        "PREMASK__BROKER__URL": broker.url,
        "PREMASK__STORAGE__ENDPOINT_URL": store.endpoint_url,
        "PREMASK__STORAGE__REGION": seaweedfs.REGION,
        "PREMASK__STORAGE__ACCESS_KEY_ID": store.access_key_id,
        "PREMASK__STORAGE__SECRET_ACCESS_KEY": store.secret_access_key,
        "PREMASK__STORAGE__ARTIFACT_BUCKET": store.bucket,
        "PREMASK__LABEL_STUDIO__ML_BACKEND_SECRET": SECRET,
        "PREMASK__INTERACTIVE__SERVICE_URL": f"http://{LOOPBACK}:{masks_port}",
        "PREMASK__INTERACTIVE__DEADLINE_S": "60",
    }
    return settings, environment


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        state = StateDir(Path(folder) / "state", well_known_ports=False)
        database, broker, store = postgres.prepare(state), valkey.prepare(state), seaweedfs.prepare(state)
        port, masks_port = state.port("api", 8000), state.port("masks", 8020)
        settings, environment = _settings(database, broker, store, masks_port)
        with (
            running(postgres.service(database, state.log("postgres"))),
            running(valkey.service(broker, state.log("valkey"))),
            running(seaweedfs.service(store, state.log("s3"))),
        ):
            container = Container(settings)
            upgrade(container.engine)
            masks_url, api_url = f"http://{LOOPBACK}:{masks_port}/health", f"http://{LOOPBACK}:{port}/openapi.json"
            commands = {
                "masks": (masks_command(LOOPBACK, masks_port), masks_url),
                "api": (api_command(LOOPBACK, port), api_url),
            }
            masks, api = (
                Service(
                    name, command, state.log(name), probe=lambda url=url: answers(url), environment=environment,
                    folder=Path.cwd(), ready_timeout_s=120.0,
                )
                for name, (command, url) in commands.items()
            )  # fmt: skip
            with running(masks), running(api):
                spent = _measure(port, container)
            container.close()
    detail = {name: _figures(values) for name, values in spent.items()}
    for name, figures in detail.items():
        print(f"{name}: {figures}")
    ratio = round(float(np.min([TARGET_S * 1000 / figures["p95_ms"] for figures in detail.values()])), 3)
    print(json.dumps({"benchmark": "interactive", "ratio": ratio, "target": 1.0, "ok": ratio >= 1.0, "detail": detail}))


if __name__ == "__main__":
    main()
