"""Files that may have been altered, at random, and what may come of reading them."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

few = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
SECRET = b"nobody reads or writes this"

KEY = "a" * 64
TENSORS = {"one": torch.arange(6.0).view(2, 3), "two": torch.zeros(3, dtype=torch.int64), "none": torch.zeros(0, 2)}


@contextmanager
def one_sentence(kind: type[Exception]) -> Iterator[None]:
    """It may be refused, but with an error of this kind that can be shown."""
    try:
        yield
    except kind as error:
        message = str(error)
        assert not re.search(r"[\x00-\x1f\x7f-\x9f]", message)
        assert len(message) < 1000
        assert SECRET.decode() not in message


@st.composite
def altered(draw: st.DrawFn, value: Any) -> Any:
    """A JSON value with something in it replaced, added or left out."""
    if not isinstance(value, dict | list) or not value or draw(st.integers(0, 3)) == 0:
        return draw(ANYTHING)
    changed = dict(value) if isinstance(value, dict) else list(value)
    place = draw(st.sampled_from(list(changed) if isinstance(changed, dict) else range(len(changed))))
    if draw(st.booleans()):
        changed[place] = draw(altered(changed[place]))
    elif draw(st.booleans()):
        del changed[place]
    elif isinstance(changed, dict):
        changed[draw(st.text(max_size=8))] = changed[place]
    return changed


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """A file's bytes cut short, with others in their place, or with some more."""
    start = draw(st.integers(0, len(content)))
    end = draw(st.integers(start, min(len(content), start + 16)) | st.just(len(content)))
    return content[:start] + draw(st.binary(max_size=16)) + content[end:]
