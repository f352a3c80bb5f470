"""`encode`: any value as JSON bytes, at once, within its limit, never raising."""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import enum
import io
import math
import time
import uuid
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import PurePosixPath
from typing import Any

import orjson
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracing.encode import LEAST, LIMIT, encode

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
documents = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=30
)


@dataclasses.dataclass
class Point:
    x: int
    y: object = None


@dataclasses.dataclass(slots=True)
class Slotted:
    name: str
    unset: int = dataclasses.field(init=False)


class Model(pydantic.BaseModel):
    city: str
    parts: list[Point] = []

    def model_dump(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        raise AssertionError("a user's method was called")


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


Pair = collections.namedtuple("Pair", "left right")


class Stop(BaseException):
    """Not an Exception, as asyncio.CancelledError is not."""


def refuse(*_: object, **__: object) -> Any:
    raise Stop("hands off")


NAMES = [
    "__repr__",
    "__str__",
    "__len__",
    "__iter__",
    "__getitem__",
    "__getattribute__",
    "__getattr__",
    "__hash__",
    "__eq__",
    "__bool__",
    "__int__",
    "__index__",
    "__float__",
    "__contains__",
    "keys",
    "items",
    "values",
    "__next__",
    "__format__",
    "__class__",
    "__dict__",
    "__reduce__",
    "isoformat",
]


def hostile(base: type, *names: str) -> type:
    """Return a subclass of *base* of which everything in *names* raises."""
    return type("Hostile", (base,), dict.fromkeys(names, refuse))


class LyingClass:
    @property
    def __class__(self) -> type:
        return dict

    def __len__(self) -> int:
        return -1


class LyingText(str):
    def __len__(self) -> int:
        return 3

    def __str__(self) -> str:
        raise Stop


class Meta(type):
    def __getattribute__(cls, name: str) -> Any:
        raise Stop

    def __instancecheck__(cls, other: object) -> bool:
        raise Stop


class ReprOf:
    def __init__(self, result: Any) -> None:
        self.result = result

    def __repr__(self) -> str:
        return self.result


def hostiles() -> list[Any]:
    odd = Meta("OddClass", (), {})
    made: list[Any] = [LyingClass(), LyingText("abc"), odd, ReprOf(5), ReprOf(None)]
    made.append(object.__new__(odd))
    made.append(ReprOf(LyingText("x" * 100_000)))
    for base in (object, dict, list, tuple, set, frozenset, int, float, str, bytes, Exception):
        made.append(hostile(base, *(name for name in NAMES if name != "__getattribute__"))())
        made += [hostile(base, name)() for name in NAMES if name not in ("__hash__", "__eq__")]
    return made


def nested(depth: int) -> list[Any]:
    box: list[Any] = []
    for _ in range(depth):
        box = [box]
    return box


@given(documents)
def test_small_documents_come_back(value):
    """Whatever JSON can hold comes back equal, as long as it is small."""
    assert orjson.loads(encode(value)) == value


@given(documents, st.integers(0, 400))
def test_the_limit_holds(value, limit):
    """The result is valid JSON and never longer than the limit, however tight."""
    data = encode([value, value, {"again": value}], limit)

    orjson.loads(data)
    assert len(data) <= max(limit, LEAST)


@given(st.text(st.characters(), max_size=300), st.integers(LEAST, 300))
def test_texts_of_any_characters_are_cut_to_fit(text, limit):
    """Control characters, emoji and lone surrogates count with the bytes they take in JSON."""
    data = encode({"text": text}, limit)

    assert isinstance(orjson.loads(data), dict)
    assert len(data) <= limit


@pytest.mark.parametrize("wrap", [lambda it: it, lambda it: {"k": [it]}, lambda it: Point(1, it)])
@pytest.mark.parametrize("place", range(len(hostiles())))
def test_hostile_objects_do_not_get_through(place, wrap):
    """Objects that raise or lie at every turn become valid JSON, alone and inside others."""
    data = encode(wrap(hostiles()[place]), 2000)

    orjson.loads(data)
    assert len(data) <= 2000


@given(st.lists(st.sampled_from(range(40)), max_size=6), st.integers(LEAST, 5000))
@settings(max_examples=50, deadline=None)
def test_mixtures_of_hostile_objects_keep_the_limit(places, limit):
    """Any mixture of hostile objects gives valid JSON within the limit."""
    all_of_them = hostiles()
    value = {"items": [all_of_them[place] for place in places], "more": {"deep": places}}

    data = encode(value, limit)

    orjson.loads(data)
    assert len(data) <= limit


def test_hostile_keys_become_texts():
    """A key that cannot be shown does not lose the value below it."""

    class Key:
        def __repr__(self) -> str:
            raise Stop

    seen = orjson.loads(encode({Key(): 1, (1, 2): 2, None: 3, 2**70: 4, b"k": 5, "\ud800": 6}))

    assert list(seen.values()) == [1, 2, 3, 4, 5, 6]
    assert encode({7: "seven"}) == b'{"7":"seven"}'


def test_only_keyboard_interrupt_comes_out():
    """Ctrl-C while an object is looked at still stops the program; nothing else passes."""

    class Slow:
        def __repr__(self) -> str:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode({"slow": Slow()})


def test_later_changes_do_not_show():
    """The value is recorded as it was at the call."""
    value: dict[str, Any] = {"items": [1]}

    data = encode(value)
    value["items"].append(2)

    assert data == b'{"items":[1]}'


def test_nothing_is_consumed():
    """Generators, iterators and files are named and stay as they were."""
    pages = (page for page in "abc")
    numbers = iter([1, 2, 3])
    file = io.StringIO("line\n")

    data = encode([pages, numbers, file])

    assert [list(pages), list(numbers), file.read()] == [["a", "b", "c"], [1, 2, 3], "line\n"]
    assert b"<generator" in data
    assert b"<list_iterator>" in data
    assert b"<StringIO>" in data


async def test_coroutines_and_tasks_are_not_awaited():
    """What is awaitable is named only, and can be awaited afterwards."""

    async def answer() -> int:
        return 42

    waiting, task = answer(), asyncio.create_task(answer())

    data = encode([waiting, task])

    assert b"<coroutine " in data
    assert b"<Task" in data
    assert [await waiting, await task] == [42, 42]


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        (Point(1, Point(2)), {"x": 1, "y": {"x": 2, "y": None}}),
        (Slotted("a"), {"name": "a"}),
        (Model(city="Ulm", parts=[Point(1)]), {"city": "Ulm", "parts": [{"x": 1, "y": None}]}),
        (Pair(1, 2), {"left": 1, "right": 2}),
        ({"s": {1}}, {"s": [1]}),
        (frozenset("a"), ["a"]),
        (collections.deque([1, 2]), [1, 2]),
        (collections.Counter("aab"), {"a": 2, "b": 1}),
        ({"a": 1}.keys(), ["a"]),
        (b"abc", "<bytes 3> abc"),
        (bytearray(b"\xff\x00"), "<bytes 2> ff00"),
        (b"x" * 100, "<bytes 100> " + "x" * 32 + "…"),
        (Decimal("1.10"), "1.10"),
        (PurePosixPath("/tmp/x"), "/tmp/x"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02T00:00:00+00:00"),
        (date(2026, 1, 2), "2026-01-02"),
        (timedelta(seconds=90), "0:01:30"),
        (Colour.RED, "red"),
        (Level.HIGH, 3),
        ({Colour.RED: 1}, {"red": 1}),
        (ValueError("no such page"), "ValueError: no such page"),
        (math.sqrt, "<builtin_function_or_method math.sqrt>"),
        (Point, f"<class {__name__}.Point>"),
        (nested, f"<function {__name__}.nested>"),
        (partial(nested, 1), f"<partial of <function {__name__}.nested>>"),
        (object(), "<builtins.object object>"),
        (2**70, str(2**70)),
        (2**5000, "<int of 5001 bits>"),
        (Point(1, math.nan), {"x": 1, "y": "NaN"}),
        (math.inf, None),
        ("\ud800", "\\ud800"),
        (ReprOf("<mine>"), "<mine>"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_kinds_of_values(value, seen):
    """Each kind of value is shown in the way that tells most."""
    assert orjson.loads(encode(value)) == seen


def test_arrays_show_their_shape_without_an_import():
    """Arrays and tables of other libraries are summed up, not written out."""
    array = type("ndarray", (), {"shape": (3, 4), "dtype": "float64", "__module__": "numpy"})()
    frame = type("DataFrame", (), {"shape": (9, 2), "__module__": "pandas.core.frame"})()

    assert encode(array) == b'"<ndarray shape=(3, 4) dtype=float64>"'
    assert encode([frame]) == b'["<DataFrame shape=(9, 2)>"]'


def test_attrs_classes_show_their_fields():
    """Classes made by attrs are shown by their fields."""
    field = type("Attribute", (), {"name": "x"})()
    made = type("Made", (), {"__attrs_attrs__": (field,)})()
    made.x = 5

    assert encode(made) == b'{"x":5}'


def test_cycles_end():
    """A value that contains itself is shown once."""
    value: dict[str, Any] = {"a": 1}
    value["me"] = [value]

    assert orjson.loads(encode(value)) == {"a": 1, "me": ["<cycle>"]}


def test_the_same_value_twice_is_no_cycle():
    """A value that occurs in two places is shown in both."""
    part = Point(1)

    assert orjson.loads(encode([part, part])) == [{"x": 1, "y": None}] * 2


def test_depth_is_bounded():
    """Very deep nesting ends in a marker instead of a RecursionError."""
    assert b"too deep to show" in encode([Point(0), nested(5000)])
    orjson.loads(encode(nested(100_000)))


def test_cut_values_say_what_is_missing():
    """Long texts and lists end with the number of what was left out."""
    text = orjson.loads(encode("x" * 50_000))
    items = orjson.loads(encode(list(range(100_000))))
    fields = orjson.loads(encode({f"key {number}": "v" * 99 for number in range(5000)}))

    kept = text.index("…")
    assert text == "x" * kept + f"… +{50_000 - kept} chars"
    assert items[-1] == f"… {100_000 - len(items) + 1} more items"
    assert items[:-1] == list(range(len(items) - 1))
    assert fields["…"] == f"{5000 - len(fields) + 1} more items"


def test_a_long_part_leaves_room_for_the_others():
    """A huge first field does not push out the small ones after it."""
    seen = orjson.loads(encode({"page": "x" * 10**6, "question": "why?", "rest": ["y" * 10**6, 7]}))

    assert seen["question"] == "why?"
    assert seen["rest"][1] == 7
    assert len(seen["page"]) > 8000


def test_what_fits_is_not_cut():
    """Nothing is shortened when the whole fits, whatever its parts."""
    value = {"page": "x" * 30_000, "point": Point(1), "rest": [1, 2]}

    assert orjson.loads(encode(value)) == {**value, "point": {"x": 1, "y": None}}


@pytest.mark.parametrize(
    "value",
    [
        [[0.5] * 1536] * 1000,
        {"rows": [{"a": {"b": ["x" * 1000] * 1000}}] * 1000},
        "\x00" * 10**7,
        list(range(10**6)),
        {str(number): number for number in range(10**6)},
        [Point(1)] * 10**6,
        nested(100_000),
    ],
    ids=["matrix", "nested", "control characters", "numbers", "keys", "objects", "deep"],
)
def test_work_is_bounded(value):
    """A huge value costs milliseconds, not the seconds that writing all of it would take."""
    started = time.process_time()

    data = encode(value)

    assert time.process_time() - started < 0.5
    assert len(data) <= LIMIT
