"""What both sides of the labeling tool's tests begin with."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx
import pytest
from pydantic import SecretStr

from backend.ports.publication import PublicationItem
from backend.settings import LabelStudioSettings, StorageSettings
from integrations.label_studio.tool import LabelStudioTool
from tests.conftest import S3, LabelStudioServer
from tests.factories import moving_square


@pytest.fixture(scope="module")
def storage(s3: S3) -> StorageSettings:
    return StorageSettings(
        endpoint_url=s3.endpoint_url,
        region=s3.region,
        access_key_id=SecretStr(s3.access_key_id),
        secret_access_key=SecretStr(s3.secret_access_key),
        artifact_bucket=s3.bucket,
    )


@dataclass
class Desk:
    """A project of the test's own, and Label Studio's API as anybody may call it, to look behind the adapter's back."""

    tool: LabelStudioTool
    api: httpx.Client
    name: str
    project_id: int
    item: PublicationItem

    def get(self, path: str, **params: Any) -> Any:
        response = self.api.get(path, params=params)
        response.raise_for_status()
        return response.json()

    def tasks(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get("/api/tasks", project=self.project_id, fields="all")["tasks"]
        return found

    def predictions(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get("/api/predictions/", project=self.project_id)
        return sorted(found, key=lambda prediction: prediction["id"])


@pytest.fixture(scope="module")
def settings(label_studio: LabelStudioServer) -> LabelStudioSettings:
    return LabelStudioSettings(url=label_studio.url, api_key=SecretStr(label_studio.token))


@pytest.fixture
def desk(settings: LabelStudioSettings, storage: StorageSettings, label_studio: LabelStudioServer) -> Iterator[Desk]:
    tool = LabelStudioTool(settings, storage)
    name = f"contract {uuid4().hex[:8]}"
    with httpx.Client(
        base_url=label_studio.url, headers={"Authorization": f"Token {label_studio.token}"}, timeout=60
    ) as api:
        project_id = tool.ensure_project(name, ["square"], [storage.artifact_bucket])
        yield Desk(tool, api, name, project_id, moving_square.item(f"s3://{storage.artifact_bucket}/clip.mp4"))
