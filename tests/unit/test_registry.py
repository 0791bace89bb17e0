"""Registries: members that are shipped, registered in Python, or listed by an installed package."""

import sys
import textwrap
from abc import ABC, abstractmethod
from importlib import import_module

import pytest

from raydisc.errors import InputError
from raydisc.registry import Registry, nearest


class Shape(ABC):
    name: str

    @abstractmethod
    def area(self) -> float: ...


class Square(Shape):
    name = "square"

    def area(self) -> float:
        return 1.0


class Triangle(Shape):
    name = "triangle"

    def area(self) -> float:
        return 0.5


@pytest.fixture
def registry() -> Registry[type[Shape]]:
    return Registry("raydisc_tests.shapes", "shape", Shape)


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install a package whose module ``NAME_shapes`` has a source and whose entry points are given."""
    monkeypatch.syspath_prepend(tmp_path)
    modules = []

    def installed(package: str, source: str, points: dict[str, str]) -> None:
        module = f"{package}_shapes"
        modules.extend([module, package])
        (tmp_path / f"{module}.py").write_text(textwrap.dedent(source))
        metadata = tmp_path / f"{package}-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        lines = "\n".join(f"{name} = {module}:{value}" for name, value in points.items())
        (metadata / "entry_points.txt").write_text(f"[raydisc_tests.shapes]\n{lines}\n")

    yield installed
    for module in modules:
        sys.modules.pop(module, None)


def source_of(*classes: tuple[str, str]) -> str:
    """Return a module of shapes, by the class and its own name."""
    bodies = [f"class {kind}(Shape):\n    name = '{name}'\n    def area(self): return 2.0\n" for kind, name in classes]
    return f"from {__name__} import Shape\n" + "\n".join(bodies)


def test_a_registered_class_is_found_by_its_name(registry):
    assert registry.register(Triangle) is Triangle
    registry.register(Square)
    assert registry.get("triangle") is Triangle
    assert registry.names() == ("square", "triangle")
    assert list(registry) == [Square, Triangle]
    assert "square" in registry
    assert "circle" not in registry


def test_an_unknown_name_names_the_nearest_one_or_all(registry):
    registry.register(Triangle)
    registry.register(Square)
    with pytest.raises(InputError, match=r"^unknown shape 'sqare' in drawing \(did you mean 'square'\?\)$"):
        registry.get("sqare", "drawing")
    with pytest.raises(InputError, match=r"^unknown shape 'x' \(known: square, triangle\)$"):
        registry.get("x")
    assert nearest("x", ["a", "b"]) == " (known: a, b)"


def test_the_hint_for_a_file_says_how_to_add_a_member_unless_a_name_is_near(registry):
    registry.register(Square)
    assert registry.hint("sqare") == " (did you mean 'square'?)"
    added = "; a shape of your own has to be installed as an entry point in the group raydisc_tests.shapes"
    assert registry.hint("x") == f" (known: square){added}"
    assert registry.hint("x", ["a"]) == f" (known: a){added}"


def test_a_name_can_be_had_once(registry):
    class Other(Square):
        pass

    registry.register(Square)
    registry.register(Square)
    with pytest.raises(InputError, match=r"Other has the name 'square' of another shape, .*Square; rename it$"):
        registry.register(Other)
    assert registry.get("square") is Square


def test_a_class_that_is_defined_again_replaces_itself(registry):
    def cell() -> type[Shape]:
        class Mine(Square):
            name = "mine"

        return Mine

    registry.register(cell())
    again = registry.register(cell())
    assert registry.get("mine") is again


@pytest.mark.parametrize(
    ("member", "reason"),
    [
        (int, "int must be a subclass of Shape without abstract methods to be a shape"),
        (Shape, "Shape must be a subclass of Shape without abstract methods to be a shape"),
        (Square(), "Square must be a subclass of Shape without abstract methods to be a shape"),
        (type("Nameless", (Square,), {"name": ""}), "Nameless needs the attribute 'name'"),
    ],
)
def test_what_is_not_a_member_is_refused(registry, member, reason):
    with pytest.raises(InputError, match=reason):
        registry.register(member)
    assert registry.names() == ()


def test_a_registry_of_instances():
    class Named(Square):
        def __init__(self, kind: str) -> None:
            self.kind = kind

    registry: Registry[Named] = Registry("raydisc_tests.shapes", "shape", Named, classes=False, key="kind")
    first = registry.register(Named("a"))
    assert registry.get("a") is first
    with pytest.raises(InputError, match="has the name 'a' of another shape"):
        registry.register(Named("a"))
    with pytest.raises(InputError, match="Named must be an instance of Named to be a shape"):
        registry.register(Named)


def test_a_member_is_registered_for_the_duration_of_a_block(registry):
    registry.register(Square)
    with registry.registering(Triangle) as member:
        assert registry.get("triangle") is member
    assert registry.names() == ("square",)
    with pytest.raises(InputError, match="must be a subclass"), registry.registering(int):
        pass


def test_shipped_members_are_imported_when_they_are_asked_for(install):
    install("core", source_of(("Circle", "circle"), ("Wrong", "right")), {})
    shipped = {"wrong": "core_shapes:Wrong", "circle": "core_shapes:Circle"}
    registry: Registry[type[Shape]] = Registry("raydisc_tests.none", "shape", f"{__name__}:Shape", shipped=shipped)
    assert registry.names() == ("wrong", "circle")
    assert "core_shapes" not in sys.modules
    assert registry.get("circle").__name__ == "Circle"
    with pytest.raises(InputError, match="core_shapes:Wrong is listed as 'wrong', but its own name is 'right'"):
        registry.get("wrong")
    with pytest.raises(InputError, match="has the name 'circle' of another shape"):
        registry.register(type("Mine", (Square,), {"name": "circle"}))


def test_an_installed_package_adds_a_member(registry, install):
    install("acme", source_of(("Circle", "circle")), {"circle": "Circle"})
    registry.register(Square)
    assert registry.names() == ("circle", "square")
    assert "acme_shapes" not in sys.modules
    assert registry.get("circle")().area() == 2.0
    assert registry.get("circle") is sys.modules["acme_shapes"].Circle
    registry.register(sys.modules["acme_shapes"].Circle)  # as a decorator in that module does


@pytest.mark.parametrize("point", ["acme_shapes", "acme"])
@pytest.mark.parametrize("imported_first", [True, False])
def test_a_class_may_be_registered_and_be_an_entry_point_of_the_same_name(
    registry, install, tmp_path, monkeypatch, point, imported_first
):
    """The module of the entry point, or a package that passes the class on, is half imported at that moment."""
    source = source_of(("Circle", "circle")) + f"\nimport {__name__}\n{__name__}.DECORATING.register(Circle)\n"
    monkeypatch.setattr(sys.modules[__name__], "DECORATING", registry, raising=False)
    install("acme", source, {"circle": "Circle"})
    if point == "acme":
        (tmp_path / "acme.py").write_text("from acme_shapes import Circle\n")
        (tmp_path / "acme-1.0.dist-info" / "entry_points.txt").write_text("[raydisc_tests.shapes]\ncircle=acme:Circle")
    if imported_first:
        import_module(point)
    assert registry.get("circle") is import_module(point).Circle
    assert registry.names() == ("circle",)


def test_a_registered_class_with_the_name_of_an_installed_one_is_refused_when_it_is_asked_for(registry, install):
    install("acme", source_of(("Circle", "circle")), {"circle": "Circle"})
    registry.register(type("Mine", (Square,), {"name": "circle"}))
    assert "acme_shapes" not in sys.modules
    with pytest.raises(InputError, match=r"acme_shapes:Circle, .* the name 'circle' of another shape, .*Mine; rename"):
        registry.get("circle")


def test_an_entry_point_that_refuses_itself_is_explained_once(registry, install):
    reason = "a licence is missing, " + "which is explained at length, " * 10 + "buy one"
    install("acme", f"from raydisc.errors import InputError\nraise InputError({reason!r})", {"circle": "Circle"})
    with pytest.raises(InputError, match=f"^{reason}$"):
        registry.get("circle")


def test_an_entry_point_that_cannot_be_imported_is_named(registry, install):
    install("acme", "raise RuntimeError('no licence')", {"circle": "Circle"})
    registry.register(Square)
    assert registry.get("square") is Square
    for _ in range(2):
        with pytest.raises(
            InputError,
            match=r"^acme_shapes:Circle, an entry point of the package 'acme' in the group 'raydisc_tests.shapes', "
            r"cannot be imported \(RuntimeError: no licence\); repair or uninstall it$",
        ):
            registry.get("circle")


def test_two_packages_that_offer_one_name_are_refused(registry, install):
    install("acme", source_of(("Circle", "circle")), {"circle": "Circle"})
    install("bolt", source_of(("Round", "circle")), {"circle": "Round"})
    for _ in range(2):
        with pytest.raises(InputError, match="has the name 'circle' of another shape"):
            registry.get("circle")


def test_an_entry_point_that_is_no_member_is_refused(registry, install):
    install("acme", source_of(("Circle", "round")) + "\nnothing = 3\n", {"circle": "Circle", "three": "nothing"})
    with pytest.raises(InputError, match="is listed as 'circle', but its own name is 'round'; make them the same"):
        registry.get("circle")
    with pytest.raises(InputError, match=r"of the package 'acme' in .* must be a subclass of Shape"):
        registry.get("three")
