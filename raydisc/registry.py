"""Registries of the members that a name in an experiment file may stand for."""

import importlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from inspect import isabstract
from typing import Any, Generic, TypeVar, cast

from raydisc.errors import InputError, reason_of

T = TypeVar("T")
Member = TypeVar("Member")


class Registry(Generic[T]):
    """The members of one kind, by name: those that raydisc ships, and those that other packages add.

    A member is added in Python with the ``register`` decorator, or by an installed package that lists it in its
    metadata under the registry's entry-point group. An entry point has the member's own name::

        [project.entry-points."raydisc.losses"]
        my_loss = "my_package.losses:MyLoss"

    Names are known without importing anything; a member is imported when it is asked for.

    Args:
        group: The entry-point group, such as ``raydisc.losses``.
        noun: What messages call a member, such as ``loss``.
        base: The class that members derive from, or where to import it from (``package.module:Class``).
        shipped: Where to import raydisc's own members from, by name.
        classes: Whether members are classes (subclasses of ``base``) rather than instances of ``base``.
        key: The attribute of a member that holds its name.

    Example:
        >>> class Shape:
        ...     name: str
        >>> SHAPES: Registry[type[Shape]] = Registry("my_package.shapes", "shape", Shape)
        >>> @SHAPES.register
        ... class Circle(Shape):
        ...     name = "circle"
        >>> SHAPES.get("circle").name
        'circle'
        >>> SHAPES.get("cirle", "drawing.shape")
        Traceback (most recent call last):
        ...
        raydisc.errors.InputError: unknown shape 'cirle' in drawing.shape (did you mean 'circle'?)
    """

    def __init__(
        self,
        group: str,
        noun: str,
        base: type | str,
        *,
        shipped: Mapping[str, str] | None = None,
        classes: bool = True,
        key: str = "name",
    ) -> None:
        """Create a registry; nothing is imported yet."""
        self.group = group
        self.noun = noun
        self._named_base = base
        self._shipped = dict(shipped or {})
        self._classes = classes
        self._key = key
        self._members: dict[str, T] = {}
        self._loaded: set[str] = set()

    def register(self, member: Member) -> Member:
        """Add a member; usable as a decorator of its class.

        A class that is defined again in the same place, such as a notebook cell that is run twice, replaces its former
        self. Entry points are not imported here, since the module of one may be what registers the member: whether an
        installed package offers another member of the same name is found when the name is asked for.

        Args:
            member: A subclass of the base class, or an instance where the registry holds instances.

        Returns:
            The member itself.

        Raises:
            InputError: The member does not derive from the base class, is abstract, has no name, or has the name of
                another member.
        """
        self._load_shipped(self._name_of(member, _described(member)))
        self._add(member, _described(member))
        return member

    @contextmanager
    def registering(self, member: Member) -> Iterator[Member]:
        """Keep a member registered for the duration of a ``with`` block, which suits tests.

        Args:
            member: See ``register``.

        Yields:
            The member.
        """
        self.register(member)
        try:
            yield member
        finally:
            del self._members[getattr(member, self._key)]

    def get(self, name: str, where: str = "") -> T:
        """Return the member of a name.

        Args:
            name: The member's name.
            where: The setting that holds the name, for the message.

        Raises:
            InputError: There is no such member, two packages offer it, or it cannot be imported.
        """
        self._load(name)
        if name not in self._members:
            inside = f" in {where}" if where else ""
            raise InputError(f"unknown {self.noun} '{name}'{inside}{nearest(name, self.names())}")
        return self._members[name]

    def names(self) -> tuple[str, ...]:
        """Return the names of all members: raydisc's own as it lists them, then others in alphabetical order."""
        others = {*self._members, *self._installed} - {*self._shipped}
        return (*self._shipped, *sorted(others))

    def hint(self, name: str, known: Iterable[str] | None = None) -> str:
        """Return what a message adds to an unknown name in an experiment file.

        Args:
            name: The unknown name.
            known: The names that would be right; those of all members by default.
        """
        own = f"; a {self.noun} of your own has to be installed as an entry point in the group {self.group}"
        return nearest(name, self.names() if known is None else known, own)

    def __contains__(self, name: object) -> bool:
        """Whether a member has this name."""
        return name in self.names()

    def __iter__(self) -> Iterator[T]:
        """Iterate over all members in the order of ``names``, importing them."""
        return map(self.get, self.names())

    @cached_property
    def _base(self) -> type:
        if not isinstance(self._named_base, str):
            return self._named_base
        module, _, name = self._named_base.partition(":")
        return cast(type, getattr(importlib.import_module(module), name))

    @cached_property
    def _installed(self) -> dict[str, list[EntryPoint]]:
        found: dict[str, list[EntryPoint]] = {}
        for point in entry_points(group=self.group):
            found.setdefault(point.name, []).append(point)
        return found

    def _load(self, name: str) -> None:
        """Import the members that are shipped or installed under a name, unless that was done before."""
        if name in self._loaded:
            return
        self._load_shipped(name)
        for point in self._installed.get(name, ()):
            self._add_installed(point)
        self._loaded.add(name)

    def _load_shipped(self, name: str) -> None:
        if name in self._shipped and name not in self._members:
            point = EntryPoint(name, self._shipped[name], self.group)
            self._add(point.load(), point.value, name)

    def _add_installed(self, point: EntryPoint) -> None:
        package = f"the package '{point.dist.name}'" if point.dist else "an installed package"
        origin = f"{point.value}, an entry point of {package} in the group '{self.group}',"
        try:
            member = point.load()
        except InputError:
            raise  # it names the member itself
        except Exception as error:
            raise InputError(
                f"{origin} cannot be imported ({type(error).__name__}: {reason_of(error)}); repair or uninstall it"
            ) from error
        self._add(member, origin, point.name)

    def _add(self, member: Any, origin: str, expected: str | None = None) -> None:
        name = self._name_of(member, origin)
        if name != (expected or name):
            raise InputError(f"{origin} is listed as '{expected}', but its own name is '{name}'; make them the same")
        other = self._members.get(name, member)
        if other is not member and not (self._classes and _described(other) == _described(member)):
            raise InputError(f"{origin} has the name '{name}' of another {self.noun}, {_described(other)}; rename it")
        self._members[name] = cast(T, member)

    def _name_of(self, member: Any, origin: str) -> str:
        """Return a member's name after checking that it can be a member."""
        if self._classes:
            fits = isinstance(member, type) and issubclass(member, self._base) and not isabstract(member)
            wanted = f"a subclass of {self._base.__name__} without abstract methods"
        else:
            fits, wanted = isinstance(member, self._base), f"an instance of {self._base.__name__}"
        if not fits:
            raise InputError(f"{origin} must be {wanted} to be a {self.noun}")
        name = getattr(member, self._key, None)
        if not isinstance(name, str) or not name:
            raise InputError(f"{origin} needs the attribute '{self._key}': the name that experiment files use")
        return name


def nearest(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """Return a hint in brackets: the known name most like ``name``, or all of them when none is like it.

    Args:
        name: The unknown name.
        known: The known names.
        otherwise: Text that follows where no known name is like it.
    """
    names = list(known)
    close = get_close_matches(name, names, n=1, cutoff=0.6)
    return f" (did you mean '{close[0]}'?)" if close else f" (known: {', '.join(names)}){otherwise}"


def _described(member: Any) -> str:
    """Return where a class, or the class of an instance, is defined."""
    kind = member if isinstance(member, type) else type(member)
    return f"{kind.__module__}.{kind.__qualname__}"
