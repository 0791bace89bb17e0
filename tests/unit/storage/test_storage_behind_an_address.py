"""A storage behind an address: copies on two machines, and what each sees of the other."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from raydisc.errors import InputError
from raydisc.storage.address import open_storage
from raydisc.storage.folder import Held, Storage
from raydisc.storage.lease import LeaseTimes, leased
from raydisc.storage.mirrored import CACHE_VARIABLE, MirroredStorage, cache_folder
from raydisc.storage.remote import Remote

SOON = LeaseTimes(stale_s=1.0, renew_s=0.2, ask_s=0.05)


@pytest.fixture
def behind(tmp_path: Path) -> Path:
    """The folder that the address stands for."""
    return tmp_path / "behind"


@pytest.fixture(params=["file", "fsspec+file"])
def machines(tmp_path: Path, behind: Path, request: pytest.FixtureRequest) -> list[MirroredStorage]:
    """The storage as two machines have it: through a file system of pyarrow's own, and through one of fsspec."""
    address = behind.as_uri().replace("file", request.param, 1)
    return [MirroredStorage(tmp_path / name, Remote(address), times=SOON) for name in ("one", "two")]


def written(storage: Storage, name: str, content: str) -> None:
    path = storage.path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def test_the_address_has_the_files_as_they_are_called(machines: list[MirroredStorage], behind: Path) -> None:
    one, two = (machine / "artifacts" for machine in machines)
    written(one, "key/tokenizer/words", "a b c")
    assert not two.has("key/tokenizer/words")
    one.publish("key")
    assert (behind / "artifacts/key/tokenizer/words").read_text() == "a b c"
    assert two.has("key/tokenizer/words")
    assert not two.path("key").exists()


def test_what_is_only_on_this_machine_does_not_count(machines: list[MirroredStorage]) -> None:
    one, _ = machines
    written(one, "file", "mine")
    assert not one.has("file")
    assert one.read("file") is None
    assert one.names() == []


def test_files_that_never_change_are_fetched_once(machines: list[MirroredStorage], behind: Path) -> None:
    one, two = machines
    written(one, "ledger/part", "rows")
    one.publish("ledger/part")
    [path] = two.fetch(["ledger/part"])
    (behind / "ledger/part").write_text("other")
    assert two.fetch(["ledger/part"]) == [path]
    assert path.read_text() == "rows"
    two.fetch_again("ledger/part")
    assert path.read_text() == "other"


def test_files_of_a_folder_are_forgotten(machines: list[MirroredStorage]) -> None:
    one, two = machines
    for name in ("key/a", "key/folder/b"):
        written(one, name, "")
    one.publish("key")
    one.forget("key", but=["a"])
    assert (two / "key").folders() in ([], ["folder"])  # a folder's name may outlive its files
    assert not two.has("key/folder/b")
    assert two.has("key/a")


def test_the_path_of_a_part_and_its_parent(machines: list[MirroredStorage], behind: Path) -> None:
    one, _ = machines
    part = one / "run" / "students"
    address = behind.as_uri() if str(part).startswith("file") else f"fsspec+{behind.as_uri()}"
    assert str(part) == f"{address}/run/students"
    assert str(part.parent) == f"{address}/run"
    assert str(part.parent.parent) == address
    assert part.parent.folder == one.folder / "run"


def test_the_query_stays_at_the_end_of_an_address(tmp_path: Path) -> None:
    address = "s3://bucket/runs?endpoint_override=127.0.0.1:1&scheme=http&region=us-east-1"
    storage = MirroredStorage(tmp_path, Remote(address))
    assert str(storage / "mine") == address.replace("runs", "runs/mine")


# who holds a name


def test_a_lease_is_gone_when_its_holder_is_done(machines: list[MirroredStorage]) -> None:
    one, two = machines
    with one.holding("locks/run", wait=False):
        assert two.has("locks/run")
    assert not two.has("locks/run")


def test_a_holder_that_renews_is_not_stale(machines: list[MirroredStorage]) -> None:

    one, two = machines
    with one.holding("run"):
        time.sleep(2 * SOON.stale_s)
        with pytest.raises(Held), two.holding("run", wait=False):
            pass


def test_a_stale_lease_is_taken_over(behind: Path) -> None:

    remote = Remote(behind.as_uri())
    behind.mkdir()
    (behind / "run").write_text('{"lease": "x", "machine": "another one", "pid": 1}')
    with pytest.raises(Held), leased(remote, "run", False, SOON):
        pass
    os.utime(behind / "run", (1e9, 1e9))
    with leased(remote, "run", False, SOON):
        assert "another one" not in (behind / "run").read_text()
    assert not (behind / "run").exists()
    assert list(behind.iterdir()) == []


def test_the_lease_of_a_process_that_has_ended_is_taken_over_at_once(behind: Path) -> None:

    remote = Remote(behind.as_uri())
    dies = (
        "import os, sys\nfrom raydisc.storage.lease import leased\nfrom raydisc.storage.remote import Remote\n"
        "with leased(Remote(sys.argv[1]), 'run', False): os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", dies, behind.as_uri()]).returncode == 9
    assert (behind / "run").exists()
    with leased(remote, "run", False):
        pass


# what a user calls it


def test_a_path_is_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for where in ("~/runs", str(tmp_path / "runs"), (tmp_path / "runs").as_uri()):
        storage = open_storage(where)
        assert type(storage) is Storage
        assert storage.folder == tmp_path / "runs"


@pytest.mark.parametrize("where", ["s4://bucket/runs", "s3://bucket/runs?no_such_option=1", "s3://"])
def test_an_address_that_is_none_is_refused(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    with pytest.raises(InputError, match="cannot be opened by pyarrow.fs"):
        open_storage(where)


@pytest.mark.parametrize("where", ["s3://AKIA123:p4ss/w0rd@bucket/runs", "s3://bucket/runs?access_key=p4ss/w0rd"])
def test_credentials_in_an_address_are_refused_and_not_repeated(where: str) -> None:
    with pytest.raises(InputError, match="carries credentials") as refused:
        open_storage(where)
    assert "p4ss" not in str(refused.value)
    assert "AKIA123" not in str(refused.value)
    assert "***" in str(refused.value)


def test_the_cache_is_no_other_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    folder = cache_folder("s3://bucket/runs")
    assert folder.parent == tmp_path / "cache"
    assert folder.stat().st_mode & 0o077 == 0
    assert cache_folder("s3://bucket/others") != folder
    monkeypatch.setenv(CACHE_VARIABLE, "/dev/null/cache")
    with pytest.raises(InputError, match="RAYDISC_CACHE: .* cannot be made"):
        cache_folder("s3://bucket/runs")
