"""How fast the API takes Label Studio's webhook, which a labeler's request waits for.

`python -m benchmarks.webhook_ms`: the API as a process, with Postgres and Valkey of its own; each hint on a new
connection, as Label Studio sends them, one after the other and from several at once. Prints milliseconds, and last one
JSON line; the ratio is the 99th percentile, where it is larger, over 50 ms.
"""

import json
import os
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path

from pydantic import SecretStr

from backend.db.migrate import upgrade
from backend.db.session import make_engine
from backend.settings import DatabaseSettings
from integrations.local import postgres, valkey
from integrations.local.app import api_command
from integrations.local.label_studio import answers
from integrations.local.ports import LOOPBACK
from integrations.local.service import Service, running
from integrations.local.state import StateDir

HINTS, AT_ONCE = 1000, 4
TARGET_MS = 50.0
TOKEN = "benchmark"
PATH = "/api/v1/events/label-studio"


def _post_ms(port: int, number: int) -> float:
    body = json.dumps({"action": "ANNOTATION_UPDATED", "project": {"id": 1}, "task": {"id": number + 1}})
    begin = time.perf_counter()
    connection = HTTPConnection(LOOPBACK, port, timeout=10)
    connection.request("POST", PATH, body, {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"})
    answer = connection.getresponse()
    said = answer.read()
    connection.close()
    spent = time.perf_counter() - begin
    if answer.status != 200:
        raise SystemExit(f"the API answered {answer.status}: {said!r}")
    return spent * 1000


def _figures(values_ms: list[float]) -> dict[str, float]:
    p99_ms = statistics.quantiles(values_ms, n=100)[98]
    return {"median_ms": round(statistics.median(values_ms), 2), "p99_ms": round(p99_ms, 2)}


def _measure(port: int) -> dict[str, dict[str, float]]:
    for number in range(50):
        _post_ms(port, number)
    alone = [_post_ms(port, number) for number in range(HINTS)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        together = list(pool.map(lambda number: _post_ms(port, number), range(HINTS)))
    return {"one_after_the_other": _figures(alone), f"{AT_ONCE}_at_once": _figures(together)}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        state = StateDir(Path(folder) / "state", well_known_ports=False)
        database, broker, port = postgres.prepare(state), valkey.prepare(state), state.port("api", 8000)
        url = f"http://{LOOPBACK}:{port}"
        with (
            running(postgres.service(database, state.log("postgres"))),
            running(valkey.service(broker, state.log("valkey"))),
        ):
            engine = make_engine(DatabaseSettings(url=SecretStr(database.url())))
            upgrade(engine)
            engine.dispose()
            environment = {
                **os.environ,
                "PREMASK__DATABASE__URL": database.url(),
                "PREMASK__BROKER__URL": broker.url,
                "PREMASK__LABEL_STUDIO__WEBHOOK_TOKEN": TOKEN,
            }
            api = Service(
                "api", api_command(LOOPBACK, port), state.log("api"), probe=lambda: answers(f"{url}/openapi.json"),
                environment=environment, folder=Path.cwd(), ready_timeout_s=60.0,
            )  # fmt: skip
            with running(api):
                detail = _measure(port)
    ratio = round(max(figures["p99_ms"] for figures in detail.values()) / TARGET_MS, 3)
    for name, figures in detail.items():
        print(f"{name}: {figures}")
    print(json.dumps({"benchmark": "webhook_ms", "ratio": ratio, "target": 1.0, "ok": ratio <= 1.0, "detail": detail}))


if __name__ == "__main__":
    main()
