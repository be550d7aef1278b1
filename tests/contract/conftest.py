"""What both sides of the labeling tool's tests begin with."""

import pytest
from pydantic import SecretStr

from backend.settings import StorageSettings
from tests.conftest import S3


@pytest.fixture(scope="module")
def storage(s3: S3) -> StorageSettings:
    return StorageSettings(
        endpoint_url=s3.endpoint_url,
        region=s3.region,
        access_key_id=SecretStr(s3.access_key_id),
        secret_access_key=SecretStr(s3.secret_access_key),
        artifact_bucket=s3.bucket,
    )
