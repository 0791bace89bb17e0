"""A server of S3 for tests, on loopback."""

from collections.abc import Iterator

import pytest
from s3_server import Server, started_server


@pytest.fixture(scope="session")
def s3_server() -> Iterator[Server]:
    """One for the session."""
    with started_server() as server:
        yield server


@pytest.fixture
def s3(s3_server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The server, with credentials for it in the environment."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key-of-tests")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-tests")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return s3_server
