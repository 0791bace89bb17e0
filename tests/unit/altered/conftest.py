"""A storage beside which nothing is touched."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from altering import SECRET


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Path]:
    """A storage; whatever lies beside it is found as it was."""
    (tmp_path / "beside").mkdir()
    (tmp_path / "beside" / "canary").write_bytes(SECRET)
    (tmp_path / "storage").mkdir()
    yield tmp_path / "storage"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["beside", "storage"]
    assert [path.name for path in (tmp_path / "beside").iterdir()] == ["canary"]
    assert (tmp_path / "beside" / "canary").read_bytes() == SECRET
