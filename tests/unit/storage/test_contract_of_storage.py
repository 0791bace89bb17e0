"""The contract of storages over a folder, a folder behind an address, and S3."""

import pytest

from raydisc.storage.folder import Storage
from raydisc.storage.lease import LeaseTimes
from raydisc.storage.mirrored import MirroredStorage
from raydisc.storage.remote import Remote
from raydisc.testing.storage import StorageContract

SOON = LeaseTimes(stale_s=1.0, renew_s=0.2, ask_s=0.05)


class TestFolder(StorageContract):
    @pytest.fixture
    def machines(self, tmp_path):
        return Storage(tmp_path / "shared"), Storage(tmp_path / "shared")


class TestFolderBehindAnAddress(StorageContract):
    @pytest.fixture(params=["file", "fsspec+file"])
    def machines(self, tmp_path, request):
        address = (tmp_path / "behind").as_uri().replace("file", request.param, 1)
        return tuple(MirroredStorage(tmp_path / name, Remote(address), times=SOON) for name in ("one", "two"))


@pytest.mark.integration
class TestS3(StorageContract):
    @pytest.fixture
    def machines(self, tmp_path, s3):
        address = s3.address(f"{s3.bucket()}/runs")
        return tuple(MirroredStorage(tmp_path / name, Remote(address), times=SOON) for name in ("one", "two"))
