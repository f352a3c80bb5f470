"""Rows answer to names and places; statuses read like PostgreSQL's."""

from __future__ import annotations

import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketflow_async.resources.rows import Row, changed, parameters, rows, status


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.none()))
def test_a_row_is_what_its_columns_are(columns):
    """Names, values, items, places, `dict`, copies and pickles agree with the columns."""
    (row,) = rows([tuple(columns.values())], columns)
    assert dict(row) == columns
    assert (list(row.keys()), list(row.values())) == (list(columns), list(columns.values()))
    assert list(row.items()) == list(columns.items())
    assert [row[place] for place in range(len(row))] == list(row)
    assert all(name in row and row[name] == row.get(name) == columns[name] for name in columns)
    for other in (pickle.loads(pickle.dumps(row)), copy.deepcopy(row), copy.copy(row)):
        assert (other, dict(other), type(other)) == (row, columns, Row)


def test_what_a_row_has_not():
    """An unknown name is a KeyError, a place too far an IndexError; `get` has a default."""
    row = Row(("a", 2), {"x": 0, "y": 1})
    with pytest.raises(KeyError, match="z"):
        row["z"]
    with pytest.raises(IndexError):
        row[2]
    assert (row.get("z"), row.get("z", 7), row[-1], row[:1]) == (None, 7, 2, ("a",))
    assert ("a" in row, "x" in row) == (False, True)
    assert repr(row) == "<Row x='a' y=2>"
    assert row == ("a", 2)


@pytest.mark.parametrize(
    ("query", "count", "said"),
    [
        ("INSERT INTO t VALUES (1)", 1, "INSERT 0 1"),
        ("  replace into t values (1)", 2, "INSERT 0 2"),
        ("update\n t SET x = 1", 3, "UPDATE 3"),
        ("DELETE FROM t", 0, "DELETE 0"),
        ("select 1", 1, "SELECT 1"),
        ("CREATE TABLE t (x)", -1, "CREATE"),
        ("commit;", -1, "COMMIT"),
        ("", -1, ""),
        ("-- a comment\nSELECT 1", -1, "--"),
    ],
)
def test_what_was_done_reads_as_in_postgresql(query, count, said):
    """The verb, and how many rows, which can be read from it again."""
    assert status(query, count) == said
    assert changed(said) == (count if count >= 0 else None)


def test_one_list_is_all_the_parameters():
    """One list, tuple or dict is what a cursor is given; else the arguments are."""
    assert parameters((1, 2)) == (1, 2)
    assert parameters(([1, 2],)) == [1, 2]
    assert parameters(({"a": 1},)) == {"a": 1}
    assert parameters(("text",)) == ("text",)
    assert parameters(((1,), 2)) == ((1,), 2)
