"""What the text of code tells: free names, assigned names, keys of its value."""

from __future__ import annotations

import ast
import builtins
import dis
from types import CodeType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketflow_async.workflow.code import compile_code
from pocketflow_async.workflow.names import names_of, result_keys

NAMES = st.sampled_from(["a", "b", "c", "d", "result"])
EXPRESSIONS = st.recursive(
    NAMES | st.sampled_from(["1", "len", "print"]),
    lambda inner: st.one_of(
        st.builds("[{} for {} in {} if {}]".format, inner, NAMES, inner, inner),
        st.builds("(lambda {}: {})".format, NAMES, inner),
        st.builds("({} + {})".format, inner, inner),
        st.builds("{}.attribute".format, NAMES),
        st.builds("f'{{{}}}'".format, NAMES),
        st.builds("{{'k': {}}}".format, inner),
        st.builds("({} := {})".format, NAMES, inner),
    ),
    max_leaves=5,
)


def indented(lines):
    return "\n".join("    " + line for line in "\n".join(lines).split("\n"))


SIMPLE = st.one_of(
    st.builds("{} = {}".format, NAMES, EXPRESSIONS),
    st.builds("{} += {}".format, NAMES, EXPRESSIONS),
    st.builds("{}: int = {}".format, NAMES, EXPRESSIONS),
    st.builds("del {}".format, NAMES),
    st.builds("import {}".format, NAMES),
    st.builds("import {}.x as {}".format, NAMES, NAMES),
    st.builds("from os import x as {}".format, NAMES),
    EXPRESSIONS,
)
STATEMENTS = st.recursive(
    SIMPLE,
    lambda inner: st.one_of(
        st.builds(
            lambda name, argument, body: f"def {name}({argument}):\n{indented(body)}",
            NAMES, NAMES, st.lists(inner, min_size=1, max_size=3),
        ),
        st.builds(
            lambda name, declared, value: (
                f"def {name}():\n    global {declared}\n    {declared} = {value}"
            ),
            NAMES, NAMES, NAMES,
        ),
        st.builds(
            lambda name, item, body: f"for {name} in {item}:\n{indented(body)}",
            NAMES, NAMES, st.lists(inner, min_size=1, max_size=2),
        ),
        st.builds(
            lambda name, body: f"try:\n    pass\nexcept OSError as {name}:\n{indented(body)}",
            NAMES, st.lists(inner, min_size=1, max_size=2),
        ),
        st.builds(
            lambda name, item, body: f"with {item} as {name}:\n{indented(body)}",
            NAMES, NAMES, st.lists(inner, min_size=1, max_size=2),
        ),
        st.builds("match {}:\n    case [{}, *_]: pass".format, NAMES, NAMES),
    ),
    max_leaves=6,
)  # fmt: skip
PROGRAMS = st.lists(STATEMENTS, min_size=1, max_size=6).map("\n".join)


def by_bytecode(program):
    """Return the free names as the compiler sees them: what is loaded, and stored nowhere."""
    loaded, stored = set(), set()
    waiting = [program]
    while waiting:
        code = waiting.pop()
        waiting += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
        for step in dis.get_instructions(code):
            if step.opname in ("LOAD_NAME", "LOAD_GLOBAL"):
                loaded.add(step.argval)
            elif step.opname in ("STORE_NAME", "STORE_GLOBAL", "DELETE_NAME", "DELETE_GLOBAL"):
                stored.add(step.argval)
    own = {"__annotations__"}  # the compiler's, for `x: int = 1`
    return loaded - stored - set(dir(builtins)) - own, stored - own


@given(PROGRAMS)
def test_free_names_are_those_of_the_bytecode(text):
    """Symbol table and bytecode agree about what is read and never set."""
    try:
        program = compile(text, "<test>", "exec", optimize=0)
    except SyntaxError:
        return
    names = names_of(text)
    free, stored = by_bytecode(program)

    assert names.free == free
    assert names.bound == stored
    assert names.assigned <= names.bound


@pytest.mark.parametrize(
    ("text", "free", "assigned"),
    [
        ("result = await api.get(url)", {"api", "url"}, {"result"}),
        ("x = [y for y in items if y > low]", {"items", "low"}, {"x"}),
        ("[last := y for y in items]", {"items"}, {"last"}),
        ("import os.path as p, json\nprint(p, json)", set(), set()),
        ("def f(a, b=d): return a + c", {"c", "d"}, set()),
        ("async with pool.get() as c:\n    rows = await c.fetch()", {"pool"}, {"c", "rows"}),
        ("class A:\n    x = outer\n    y = x", {"outer"}, set()),
        ("x += 1", set(), {"x"}),
        ("result = f'{user}'", {"user"}, {"result"}),
        ("if x: return y\nz = 1", {"x", "y"}, {"z"}),
        ("global x\nx = 1", set(), {"x"}),
        ("print(__name__, ValueError)", set(), set()),
    ],
)
def test_free_and_assigned(text, free, assigned):
    """Builtins are not free; imports, functions and classes are not assigned."""
    node = compile_code(text, node_id="n", is_async=True)

    assert (set(node.free_names), set(node.assigned)) == (free, assigned)


def test_needed_names_are_those_that_nobody_provides():
    """Modules of the list and get_resource come by themselves."""
    node = compile_code("r = await get_resource(x)\nt = time.time()", node_id="n", is_async=True)

    assert node.free_names == {"get_resource", "x", "time"}
    assert node.needed == {"x"}


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("result = {'a': 1, 'b': x}", {"a", "b"}),
        ("result: dict = {'a': 1}", {"a"}),
        ("return {'a': 1}", {"a"}),
        ("if x: return {'b': 1}\nresult = {'a': 1}", {"a", "b"}),
        ("if x:\n    result = {'b': 1}\nelse:\n    result = {'a': 1}", {"a", "b"}),
        ("result = {}", set()),
        ("if x:\n    result = {'b': 1}", None),
        ("result = {'a': 1, **x}", None),
        ("result = {x: 1}", None),
        ("result = {1: 1}", None),
        ("result = dict(a=1)", None),
        ("result = {'a': 1}\nresult['b'] = 2", None),
        ("result = {'a': 1}\nother = result", None),
        ("result = other = {'a': 1}", None),
        ("result = {'a': 1}\nresult |= x", None),
        ("result = {'a': 1}\ndel result", None),
        ("result = {'a': 1}\nfor result in x: pass", None),
        ("result = {'a': 1}\nimport result", None),
        ("result = {'a': 1}\ndef f():\n    global result\n    result = 1\nf()", None),
        ("result = {'a': 1}\ntry: f()\nexcept E as result: pass", None),
        ("result = {'a': 1}\nmatch x:\n    case {**result}: pass", None),
        ("result = {'a': 1}\nglobals()['result'] = 3", None),
        ("result = {'a': 1}\nfrom x import *", None),
        ("y = 1", None),
        ("return", None),
    ],
)
def test_keys(text, keys):
    """Keys are told only when no run can yield others."""
    found = result_keys(ast.parse(text))

    assert found == (None if keys is None else frozenset(keys))


@given(PROGRAMS)
def test_keys_are_those_of_the_value(text):
    """Whatever else the code does: when keys are told, the value has no others."""
    text += "\nif flag:\n    result = {'x': 1}\nelse:\n    result = {'y': 2, 'z': 3}"
    try:
        node = compile_code(text, node_id="n", is_async=False, allow=frozenset({"input"}))
    except ValueError:
        return
    if node.keys is None:
        return
    inputs = {name: [] for name in node.free_names}
    for flag in (True, False):
        try:
            value = node.run({**inputs, "flag": flag}, None)
        except Exception:
            continue
        assert set(value) <= node.keys
