"""The codec of checkpoints: what goes in comes out, of the same types, or an error says where."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import json
import math
import pickle
import sys
import types
from collections import Counter, OrderedDict, defaultdict, deque
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pocketflow_async.infrastructure.checkpoints import (
    CheckpointError,
    decode,
    encode,
    register_type,
)
from pocketflow_async.infrastructure.checkpoints.types import by_class, by_name


class Colour(enum.Enum):
    RED = "r"
    CRIMSON = "r"


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


class Level(enum.IntEnum):
    LOW = 1


class Pair(NamedTuple):
    left: Any
    right: Any


@dataclasses.dataclass
class Order:
    symbol: str
    lines: list[Any] = dataclasses.field(default_factory=list)
    total: Decimal = dataclasses.field(init=False, default=Decimal(0))
    made: int = 0

    def __post_init__(self) -> None:
        Order.calls += 1


Order.calls = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Point:
    x: float
    y: Any = None


class Quote(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow", arbitrary_types_allowed=True)
    price: Decimal
    at: dt.datetime | None = None
    other: Any = None
    _seen: int = pydantic.PrivateAttr(default=0)

    @pydantic.field_validator("price")
    @classmethod
    def doubled(cls, value: Decimal) -> Decimal:
        return value * 2


class Client:
    """What no checkpoint can hold."""

    def __init__(self, secret: str = "hunter2") -> None:
        self.secret = secret

    def __repr__(self) -> str:
        return f"Client({self.secret})"


class Sheet:
    """What a program registers."""

    def __init__(self, rows: list[Any]) -> None:
        self.rows = rows


@pytest.fixture(autouse=True)
def _registry(monkeypatch):
    before = dict(by_class), dict(by_name)
    yield
    for registry, old in zip((by_class, by_name), before, strict=True):
        registry.clear()
        registry.update(old)


def same(one: Any, two: Any) -> bool:
    """Return whether two values are equal and of the same types, all through."""
    if type(one) is not type(two):
        return False
    if isinstance(one, float):
        return (math.isnan(one) and math.isnan(two)) or (one, math.copysign(1, one)) == (
            two,
            math.copysign(1, two),
        )
    if isinstance(one, dict):
        return list(map(type, one)) == list(map(type, two)) and all(
            same(a, b) for a, b in zip(one.items(), two.items(), strict=True)
        )
    if isinstance(one, list | tuple | deque):
        return len(one) == len(two) and all(same(a, b) for a, b in zip(one, two, strict=True))
    return bool(one == two)


ZONES = st.sampled_from(
    [
        None,
        dt.UTC,
        ZoneInfo("Europe/Berlin"),
        ZoneInfo("UTC"),
        dt.timezone(dt.timedelta(hours=5, minutes=45)),
        dt.timezone(dt.timedelta(seconds=-1), "odd"),
    ]
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=-(1 << 20_000), max_value=1 << 20_000),
    st.floats(),
    st.text(st.characters(codec=None, categories=None)),
    st.binary(),
    st.decimals(allow_nan=False),
    st.fractions(),
    st.uuids(),
    st.dates(),
    st.times(timezones=st.just(dt.UTC) | st.none()),
    st.datetimes(timezones=ZONES, allow_imaginary=True),
    st.timedeltas(),
    st.sampled_from([*Colour, *Level, Rights.READ | Rights.WRITE, Rights(0)]),
    st.just(range(1, 9, 2)),
    st.complex_numbers(allow_nan=False),
)
KEYS = st.one_of(
    st.text(), st.integers(), st.booleans(), st.tuples(st.integers(), st.text()), st.just("$")
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(KEYS, inner, max_size=4),
        st.tuples(inner, inner),
        st.builds(Point, inner, inner),
        st.builds(Pair, inner, inner),
        st.builds(deque, st.lists(inner, max_size=3), st.sampled_from([None, 9])),
        st.sets(st.integers()),
        st.frozensets(st.text()),
    ),
    max_leaves=12,
)


@given(VALUES)
@settings(max_examples=300, deadline=None)
def test_what_goes_in_comes_out(value):
    """Of the same values and types, through JSON that is plain ASCII."""
    stored = encode(value)

    assert stored.isascii()
    assert same(decode(stored), value)


@pytest.mark.parametrize(
    "value",
    [
        Decimal("NaN"),
        Decimal("-0.00"),
        Decimal("sNaN7"),
        -0.0,
        math.inf,
        -math.inf,
        10**5000,
        -(10**5000),
        (1 << 63) - 1,
        1 << 63,
        "\0 \ud800 \N{SNOWMAN}",
        Path("/tmp/ä"),
        PurePosixPath("a/b"),
        PureWindowsPath("C:\\x"),
        bytearray(b"\0\xff"),
        Counter("abca"),
        OrderedDict([((1, 2), "x"), ("y", None)]),
        deque([1, 2], maxlen=2),
        Fraction(1, 10**400),
        UUID(int=7),
        {"$": "dict", "v": []},
        {1: "one", "1": "text", False: 2, None: 3, (1,): 4},
        (),
        frozenset(),
        Pair(1, [2]),
        Colour.CRIMSON,
    ],
    ids=lambda value: type(value).__name__,
)
def test_odd_values(value):
    """Each of them comes back as itself."""
    read = decode(encode(value))

    assert type(read) is type(value)
    assert read == value if type(value) is int else repr(read) == repr(value)


def test_a_moment_told_twice_keeps_which_one_it_is():
    """`fold`, the zone's key and a zone's own name stay."""
    berlin = dt.datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1)
    named = dt.datetime(2026, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=1), "mine"))

    read = decode(encode([berlin, named]))

    assert (read[0].utcoffset(), read[0].fold, read[0].tzinfo.key) == (
        dt.timedelta(hours=1),
        1,
        "Europe/Berlin",
    )
    assert read[1].tzname() == "mine"


def test_a_time_zone_of_the_programs_own_is_refused():
    """It would come back as another one."""

    class Mine(dt.tzinfo):
        def utcoffset(self, _):
            return dt.timedelta(hours=1)

    with pytest.raises(CheckpointError, match=r"^shared\['at'\] cannot be stored: .*Mine"):
        encode({"at": dt.datetime(2026, 1, 1, tzinfo=Mine())}, "shared")


# --- one object, several names --------------------------------------------------------------------


def test_two_names_for_one_object_stay_so():
    """Lists, dicts, sets and objects that were shared are shared afterwards; equal ones are not."""
    line, point = [1], Point(1.0)
    value = {"a": line, "b": (line, {"c": line}), "twin": [1], "p": [point, point], "s": {1}}
    value["again"] = value["s"]

    read = decode(encode(value))
    read["a"].append(2)
    read["s"].add(2)

    assert read["b"] == ([1, 2], {"c": [1, 2]})
    assert read["twin"] == [1]
    assert read["p"][0] is read["p"][1]
    assert read["again"] == {1, 2}


def test_what_contains_itself_is_refused():
    """With the way to it."""
    line: list[Any] = [1]
    line.append({"deep": line})

    with pytest.raises(CheckpointError, match=r"^shared\['x'\]\[1\]\['deep'\] contains itself"):
        encode({"x": line}, "shared")


def test_what_is_nested_too_deeply_is_refused():
    """And does not end the process."""
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]

    with pytest.raises(CheckpointError, match="nested too deeply"):
        encode(deep)


# --- objects --------------------------------------------------------------------------------------


def test_dataclasses_keep_all_their_attributes_and_no_code_runs():
    """Fields, those without init, and others that were set; frozen and slotted ones too."""
    order = Order("ABC", [Point(1.5, "y")])
    order.total, order.note = Decimal("3.50"), "by hand"
    calls = Order.calls

    read = decode(encode(order))

    assert Order.calls == calls
    assert (read, read.total, read.note) == (order, Decimal("3.50"), "by hand")


def test_models_keep_their_state_and_are_not_validated_again():
    """Fields, extras, private attributes and which fields were set; a validator ran once."""
    quote = Quote(price="2.5", at=dt.datetime(2026, 1, 1, tzinfo=dt.UTC), extra=[1])
    quote._seen = 7

    read = decode(encode(quote))

    assert (read, read.price, read._seen, read.extra) == (quote, Decimal(5), 7, [1])
    assert read.model_fields_set == quote.model_fields_set


def test_a_field_that_has_come_since_gets_its_default():
    """As in the newer version of the class; one without a default is an error that names it."""
    stored = json.loads(encode(Order("ABC", [1])))
    del stored["v"]["lines"]
    assert decode(json.dumps(stored)).lines == []

    del stored["v"]["symbol"]
    with pytest.raises(CheckpointError, match=r"Order\.symbol was not there yet"):
        decode(json.dumps(stored))

    model = json.loads(encode(Quote(price=1)))
    del model["v"]["__dict__"]["at"]
    assert decode(json.dumps(model)).at is None
    del model["v"]["__dict__"]["price"]
    with pytest.raises(CheckpointError, match=r"Quote\.price was not there yet"):
        decode(json.dumps(model))


@pytest.mark.parametrize(
    ("value", "where"),
    [
        ({"client": Client()}, r"shared\['client'\]"),
        ({"a": [0, (1, Client())]}, r"shared\['a'\]\[1\]\[1\]"),
        ({"o": Order("A", [Client()])}, r"shared\['o'\]\.lines\[0\]"),
        ({"q": Quote(price=1, other=Client())}, r"shared\['q'\]\['other'\]"),
        ({(1, 2): {"x": Client()}}, r"shared\[\(1, 2\)\]\['x'\]"),
        ([defaultdict(list)], r"shared\[0\]"),
        ([ValueError("x")], r"shared\[0\]"),
        ([lambda: 0], r"shared\[0\]"),
        ([type("Text", (str,), {})("x")], r"shared\[0\]"),
        ([type("Number", (float,), {})(1)], r"shared\[0\]"),
        ([iter([])], r"shared\[0\]"),
    ],
)
def test_what_cannot_be_stored_is_named(value, where):
    """The way to it, its type and what to do; never its contents."""
    with pytest.raises(CheckpointError, match=f"^{where} is of the type ") as caught:
        encode(value, "shared")

    assert "register_type(" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_class_that_would_not_be_found_again_is_refused():
    """One made inside a function is known to nobody else."""

    @dataclasses.dataclass
    class Local:
        x: int = 0

    with pytest.raises(CheckpointError, match=r"Local.* top level of its module"):
        encode([Local()], "shared")


def test_a_dataclass_that_is_more_than_its_fields_is_refused():
    """A dict with fields would come back empty, an exception without its args."""

    @dataclasses.dataclass
    class Table(dict):
        name: str = ""

    @dataclasses.dataclass
    class Broken(Exception):
        code: int = 0

    for value in (Table("x"), Broken(1)):
        with pytest.raises(CheckpointError, match="register_type"):
            encode(value)


# --- reading what strangers wrote -----------------------------------------------------------------


def test_reading_imports_nothing(monkeypatch):
    """A class whose module the program has not imported is an error that says so."""
    module = types.ModuleType("not_imported_here")
    module.Point = type("Point", (), {"__module__": "not_imported_here"})
    module.Point = dataclasses.dataclass(module.Point)
    monkeypatch.setitem(sys.modules, "not_imported_here", module)
    stored = encode(module.Point())
    monkeypatch.delitem(sys.modules, "not_imported_here")

    with pytest.raises(CheckpointError, match="import not_imported_here before"):
        decode(stored)
    assert "not_imported_here" not in sys.modules


@pytest.mark.parametrize(
    "stored",
    [
        {"$": "dataclass", "t": "subprocess:Popen", "v": {"args": "true"}},
        {"$": "dataclass", "t": "os:system", "v": {}},
        {"$": "model", "t": "pathlib:Path", "v": {"__dict__": {}}},
        {"$": "enum", "t": "builtins:eval", "v": "1"},
        {"$": "namedtuple", "t": "builtins:tuple", "v": [1]},
        {"$": "enum", "t": f"{__name__}:Colour", "v": "BLUE"},
        {"$": "namedtuple", "t": f"{__name__}:Pair", "v": [1, 2, 3]},
        {"$": "nonsense", "v": 1},
        {"$": "ref", "n": 5},
        {"$": "decimal", "v": "x"},
        {"$": "tuple"},
        {"$": 7, "v": 0},
        {"$": "datetime", "v": ["2026-01-01", "../../etc/passwd"]},
    ],
    ids=str,
)
def test_what_is_no_checkpoint_is_refused(stored):
    """No function is called, and no class but those of data is made."""
    with pytest.raises(CheckpointError, match=r"^it cannot be read again"):
        decode(json.dumps(stored), "it")


def test_no_json_is_refused():
    """Whatever else the bytes are."""
    with pytest.raises(CheckpointError, match="cannot be read again"):
        decode(pickle.dumps({}))


# --- registered types -----------------------------------------------------------------------------


def test_a_registered_type_is_stored_as_its_own():
    """In all that it is made of; two names for one stay so."""
    register_type(Sheet, lambda sheet: {"rows": sheet.rows}, lambda said: Sheet(said["rows"]))
    sheet = Sheet([Decimal("1.5"), (1, 2)])

    read = decode(encode({"one": sheet, "two": sheet}))

    assert read["one"].rows == sheet.rows
    assert read["one"] is read["two"]


def test_a_registered_type_may_have_a_name_that_outlives_the_class():
    """The store has that name, and another class may read it later."""
    register_type(Sheet, lambda sheet: sheet.rows, Sheet, name="sheet")
    stored = encode(Sheet([1]))

    assert b'"sheet"' in stored
    del by_class[Sheet]
    register_type(Client, lambda client: client.secret, Client, name="sheet")
    assert decode(stored).secret == [1]


def test_what_register_type_refuses():
    """What is no class, what is stored in its own way anyway, and a name that is taken."""
    with pytest.raises(TypeError, match="takes a class"):
        register_type(7, str, int)
    with pytest.raises(ValueError, match="always stored"):
        register_type(Decimal, str, Decimal)
    with pytest.raises(ValueError, match="engine's own"):
        register_type(Client, str, Client, name="decimal")
    with pytest.raises(ValueError, match="engine's own"):
        register_type(Client, str, Client, name="ref")
    register_type(Sheet, lambda sheet: sheet.rows, Sheet, name="sheet")
    with pytest.raises(ValueError, match="taken by Sheet"):
        register_type(Client, str, Client, name="sheet")


def test_an_error_in_a_registered_type_names_the_value():
    """On the way in and on the way out."""

    def broken(_):
        raise ZeroDivisionError("no")

    register_type(Sheet, broken, broken, name="sheet")
    with pytest.raises(CheckpointError, match=r"^shared\['s'\] cannot be stored: ZeroDivision"):
        encode({"s": Sheet([])}, "shared")
    with pytest.raises(CheckpointError, match=r"^shared cannot be read again: ZeroDivision"):
        decode('{"$": "sheet", "v": 1}', "shared")


def test_a_type_that_is_registered_no_more_is_named():
    """So that the program knows what to register before it resumes."""
    register_type(Sheet, lambda sheet: sheet.rows, Sheet, name="sheet")
    stored = encode(Sheet([]))
    del by_class[Sheet], by_name["sheet"]

    with pytest.raises(CheckpointError, match="'sheet' is not registered"):
        decode(stored)
