"""Faults that are tried again and for how long, their messages, and that no message has a credential."""

import errno
import time

import pytest

from raydisc.errors import StorageError
from raydisc.storage.faults import Patience, insist, sentence
from raydisc.storage.masking import has_credentials, masked

HASTY = Patience(seconds=0.5, first_s=0.01, longest_s=0.1)
SLOW_DOWN = OSError(
    "When reading information for key 'k' in bucket 'b': AWS Error SLOW_DOWN during HeadObject operation"
)


def failing(*errors: Exception):
    """Raises these, one after the other, then answers."""
    left = list(errors)

    def ask() -> str:
        if left:
            raise left.pop(0)
        return "answer"

    return ask


def test_what_fails_for_a_while_is_tried_again() -> None:
    assert insist(failing(SLOW_DOWN, OSError("curlCode: 56"), SLOW_DOWN), "s3://bucket/runs", HASTY) == "answer"


def test_what_fails_for_long_is_told() -> None:
    began = time.monotonic()
    with pytest.raises(StorageError) as failed:
        insist(failing(*[SLOW_DOWN] * 1000), "s3://bucket/runs", HASTY)
    assert time.monotonic() - began < 2
    assert str(failed.value).startswith("storage: 's3://bucket/runs' fails (When reading")
    assert "also after 0.5 seconds of trying" in str(failed.value)
    assert "raydisc resume" in str(failed.value)


@pytest.mark.parametrize(
    "error",
    [
        OSError("AWS Error ACCESS_DENIED during PutObject operation: no"),
        OSError("AWS Error UNKNOWN (HTTP status 403) during HeadObject operation: No response body."),
        OSError("AWS Error NO_SUCH_BUCKET during ListObjectsV2 operation"),
        OSError("google::cloud::Status(PERMISSION_DENIED: no)"),
        PermissionError(errno.EACCES, "Permission denied"),
    ],
)
def test_a_refusal_is_not_tried_again(error: OSError) -> None:
    with pytest.raises(StorageError, match="s3://bucket/runs"):
        insist(failing(error), "s3://bucket/runs", Patience(seconds=1e6, first_s=1e6))


def test_a_missing_file_is_an_answer() -> None:
    with pytest.raises(FileNotFoundError):
        insist(failing(FileNotFoundError()), "s3://bucket/runs", HASTY)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/x/y"), "'runs' is full"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "'runs' is full"),
        (RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"), "'runs' is full"),
        (OSError(errno.EROFS, "Read-only file system"), "'runs' cannot be written"),
        (OSError(errno.EIO, "Input/output error"), "'runs' fails"),
    ],
)
def test_a_folder_that_cannot_be_written_is_told(error: Exception, told: str) -> None:
    found = sentence(error, "runs")
    assert found is not None
    assert found.startswith(f"storage: {told}")
    assert "raydisc resume" in found


@pytest.mark.parametrize("error", [RuntimeError("a bug"), OSError("AWS Error SLOW_DOWN"), ValueError("28")])
def test_other_errors_are_not_the_storages(error: Exception) -> None:
    assert sentence(error, "runs") is None


def test_credentials_are_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG")
    monkeypatch.setenv("HF_TOKEN", "hf_abcdefghij")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/home/somebody/token")
    monkeypatch.setenv("GH_TOKEN", "x")
    text = (
        "s3://AKIA:p4ss/w@rd@bucket/runs?region=x&secret_key=abc&session_token=def failed with wJalrXUtnFEMI/K7MDENG, "
        "hf_abcdefghij in /home/somebody/token, x"
    )
    assert masked(text) == (
        "s3://***@bucket/runs?region=x&secret_key=***&session_token=*** failed with ***, *** in /home/somebody/token, x"
    )


def test_an_error_says_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "FwoGZXIvYXdzE")
    for reason in ("ACCESS_DENIED", "SLOW_DOWN"):
        error = OSError(f"AWS Error {reason}: token FwoGZXIvYXdzE")
        with pytest.raises(StorageError) as failed:
            insist(failing(*[error] * 1000), "s3://k:s@bucket", HASTY)
        assert "FwoGZXIvYXdzE" not in str(failed.value)
        assert "k:s@" not in str(failed.value)


def test_plain_addresses_carry_no_credentials() -> None:
    plain = "s3://bucket/runs?endpoint_override=127.0.0.1:9000&scheme=http"
    assert not has_credentials(plain)
    assert masked(plain) == plain
    assert not has_credentials("gs://anonymous@bucket/runs")
    assert not has_credentials("abfs://container@account.dfs.core.windows.net/runs")
