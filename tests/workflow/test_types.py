"""Types of ports: refused only where it is certain that no value fits."""

from __future__ import annotations

import collections.abc
import dataclasses
import typing
from typing import Annotated, Any, Generic, Literal, NewType, Protocol, TypedDict, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketflow_async.workflow.types import fields_of, fits, name_of_type, step

T = TypeVar("T")
Number = TypeVar("Number", bound=int)
UserId = NewType("UserId", int)


class Animal: ...


class Dog(Animal): ...


class Box(Generic[T]): ...


class Sized(Protocol):
    def size(self) -> int: ...


class User(TypedDict):
    name: str
    age: int


class Named(TypedDict):
    name: str


class Numbered(TypedDict):
    name: int


@dataclasses.dataclass
class Page:
    title: str
    user: User


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (int, int),
        (None, int),
        (int, None),
        (Any, int),
        (int, object),
        (bool, int),
        (int, float),
        (float, complex),
        (Dog, Animal),
        (Animal, Dog),
        (int | None, int),
        (int, str | int),
        (typing.Optional[int], int),  # noqa: UP045 (the old spelling)
        (list[int], list),
        (list, list[int]),
        (list[int], list[float]),
        (list[int], collections.abc.Sequence[int]),
        (collections.abc.Iterable[int], list[int]),
        (dict[str, int], collections.abc.Mapping[str, float]),
        (tuple[int, ...], list | tuple),
        (Literal["a"], str),
        (str, Literal["a", "b"]),
        (Literal["a", 1], Literal["a"]),
        (UserId, int),
        (int, UserId),
        (Annotated[int, "x"], int),
        (T, int),
        (Number, int),
        (User, dict),
        (User, Named),
        (dict[str, Any], User),
        (Dog, Sized),
        (Box[int], Box[str]),
        (type(None), int | None),
        ("NotResolved", int),
        (collections.abc.Callable[[int], str], collections.abc.Callable),
        (collections.abc.AsyncIterator[int], collections.abc.AsyncIterable[int]),
        (str, collections.abc.Iterable[str]),
    ],
)
def test_what_may_fit_is_let_through(source, target):
    """A doubt speaks for the author."""
    assert fits(source, target)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (int, str),
        (str, int),
        (float, int),
        (int | float, str),
        (int, str | bytes),
        (type(None), int),
        (list[int], list[str]),
        (list[str], collections.abc.Sequence[int]),
        (dict[str, int], dict[str, str]),
        (dict[str, int], list[int]),
        (list[dict[str, int]], list[dict[str, str]]),
        (Literal["a"], int),
        (Literal["a"], Literal["b"]),
        (int, Literal["a"]),
        (UserId, str),
        (Annotated[int, "x"], str),
        (Number, str),
        (Named, User),
        (Numbered, Named),
        (User, list),
        (Dog, User),
        (Dog, int),
        (bytes, str),
    ],
)
def test_what_cannot_fit_is_refused(source, target):
    """No value of the one type is one of the other."""
    assert not fits(source, target)


VALUES = {
    int: 1,
    bool: True,
    str: "a",
    float: 1.5,
    list[int]: [1],
    dict[str, int]: {"a": 1},
    type(None): None,
}
SIMPLE = st.sampled_from(list(VALUES))


@given(st.lists(SIMPLE, min_size=1, max_size=3), st.lists(SIMPLE, min_size=1, max_size=3))
def test_a_type_in_common_always_fits(ones, others):
    """Unions that share a member are never refused, and the answer never is an error."""
    one = typing.Union[tuple(ones)]  # noqa: UP007 (made at run time)
    other = typing.Union[tuple(others)]  # noqa: UP007

    if set(ones) & set(others):
        assert fits(one, other)
    else:
        assert fits(one, other) in (True, False)


def test_parts_of_types_have_types():
    """A path can be followed through TypedDicts, dataclasses, mappings and lists."""
    assert step(Page, "user") == User
    assert step(User, "age") is int
    assert step(dict[str, int], "any") is int
    assert step(list[User], "0") == User
    assert step(dict, "any") is None
    assert step(Animal, "any") is None
    assert fields_of(Page) == {"title": str, "user": User}
    assert fields_of(Animal) is None
    for scalar in (int, str, type(None), UserId):
        with pytest.raises(LookupError):
            step(scalar, "x")
    with pytest.raises(LookupError):
        step(User, "nme")
    with pytest.raises(LookupError):
        step(list[int], "first")


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (int, "int"),
        (type(None), "None"),
        (list[int], "list[int]"),
        (int | None, "int | None"),
        (Literal["a"], "Literal['a']"),
        (Page, "Page"),
    ],
)
def test_types_are_named_as_they_are_written(kind, name):
    """Messages show what stands in the source."""
    assert name_of_type(kind) == name


def test_types_that_cannot_be_hashed_or_asked_are_let_through():
    """Annotations may be anything; none of them breaks the check."""

    class Refuses(type):
        def __subclasscheck__(cls, other):
            raise TypeError("no")

    class Odd(metaclass=Refuses): ...

    for odd in ([], {}, 5, Odd, Annotated[int, []], lambda: 1):
        assert fits(odd, int) or odd is Odd
        assert fits(int, odd)
        assert name_of_type(odd)
        step(odd, "x")
