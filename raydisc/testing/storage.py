"""The contract of a storage, as tests.

Derive from ``StorageContract`` in a test module and define the fixture ``machines``: the same empty storage as two
machines have it::

    class TestMyStorage(StorageContract):
        @pytest.fixture
        def machines(self, tmp_path):
            return MyStorage(tmp_path / "one", "my://place"), MyStorage(tmp_path / "two", "my://place")
"""

import threading
from pathlib import Path

import pytest

from raydisc.storage.folder import Held, Storage

Machines = tuple[Storage, Storage]


def write(storage: Storage, name: str, content: str) -> Path:
    """Write a file on one machine, without publishing it."""
    path = storage.path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


class StorageContract:
    """The promises of every storage to the artifacts and ledgers that several machines keep in it."""

    @pytest.fixture
    def machines(self) -> Machines:
        """Return the same empty storage as two machines have it."""
        raise pytest.UsageError("define the fixture 'machines' in the class that derives from StorageContract")

    def test_an_empty_storage_has_nothing(self, machines: Machines) -> None:
        """Names that do not exist are answered, not raised."""
        for storage in machines:
            assert not storage.has("folder/file")
            assert storage.read("folder/file") is None
            assert (storage.names(), storage.names("folder"), storage.folders()) == ([], [], [])
            assert storage.bytes_under("folder") == 0
            storage.fetch_again("folder")
            storage.remove("folder/file")

    def test_published_files_are_seen_by_others(self, machines: Machines) -> None:
        """A folder is published with all that is below it."""
        one, two = (machine / "artifacts" for machine in machines)
        write(one, "key/weights", "w" * 1000)
        write(one, "key/tokenizer/words", "a b c")
        write(one, "key/manifest", "{}")
        one.publish("key", last="manifest")
        assert two.has("key/manifest")
        assert not two.has("key")
        assert two.read("key/manifest") == b"{}"
        assert two.size("key/weights") == 1000
        assert two.bytes_under("key") == 1007
        assert (two.names("key"), two.folders()) == (["manifest", "weights"], ["key"])
        [path] = two.fetch(["key/weights"])
        assert path == two.path("key/weights")
        assert path.read_text() == "w" * 1000
        two.fetch_again("key")
        assert two.path("key/tokenizer/words").read_text() == "a b c"

    def test_a_file_can_be_published_again(self, machines: Machines) -> None:
        """Readers that ask for the current version get it, whole."""
        one, two = machines
        for content in ("first", "the second, which is longer", "3"):
            write(one, "run/state", content)
            one.publish("run/state")
            assert two.read("run/state") == content.encode()
            two.fetch_again("run/state")
            assert two.path("run/state").read_text() == content

    def test_binary_files_come_back_as_they_were(self, machines: Machines) -> None:
        """Every byte may occur in a file, and a file may be empty."""
        one, two = machines
        for name, content in (("bytes", bytes(range(256)) * 100), ("empty", b"")):
            write(one, name, "").write_bytes(content)
            one.publish(name)
            assert (two.read(name), two.size(name)) == (content, len(content))

    def test_files_are_removed_for_everybody(self, machines: Machines) -> None:
        """A folder is removed with what is below it, and nothing beside it is."""
        one, two = machines
        for name in ("key/a", "key/folder/b", "key-of-another"):
            write(one, name, "")
        one.publish("key")
        one.publish("key-of-another")
        two.fetch_again("key")
        two.remove("key")
        two.remove("nothing")
        assert not one.has("key/a")
        assert not one.has("key/folder/b")
        assert one.names("key") == []
        assert not two.path("key").exists()
        assert one.has("key-of-another")

    def test_a_part_of_a_storage_is_a_storage(self, machines: Machines) -> None:
        """Folders of a storage and their parents have the same files under shorter and longer names."""
        one, two = machines
        part = one / "run" / "students"
        write(part, "file", "content")
        part.publish("file")
        assert two.read("run/students/file") == b"content"
        assert part.parent.read("students/file") == b"content"
        assert part.parent.parent.folder == one.folder
        assert part.absolute().path("file") == part.path("file").absolute()
        assert str(part.parent.parent) == str(one)
        assert str(part).startswith(str(one).partition("?")[0])

    def test_a_name_is_held_by_one(self, machines: Machines) -> None:
        """Another machine is refused the name, but no other name; after an error it is free again."""
        one, two = machines
        with one.holding("locks/run", wait=False):
            with pytest.raises(Held), two.holding("locks/run", wait=False):
                pass
            with two.holding("locks/other", wait=False):
                pass
        with pytest.raises(RuntimeError, match="broken"), two.holding("locks/run", wait=False):
            raise RuntimeError("broken")
        with one.holding("locks/run", wait=False):
            pass

    def test_a_waiting_holder_comes_next(self, machines: Machines) -> None:
        """A machine that waits gets the name when it is free, and not before."""
        one, two = machines
        order: list[str] = []

        def second() -> None:
            with two.holding("key"):
                order.append("second")

        waiting = threading.Thread(target=second)
        with one.holding("key"):
            waiting.start()
            waiting.join(0.5)
            order.append("first")
        waiting.join(30)
        assert order == ["first", "second"]
