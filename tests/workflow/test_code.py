"""Code strings: compiled once, run with inputs as names, refused with line and column."""

from __future__ import annotations

import asyncio
import gc
import linecache
import sys
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketflow_async.workflow.code import compile_code
from pocketflow_async.workflow.code_work import CodeWork
from pocketflow_async.workflow.errors import NodeExecutionError, WorkflowValidationError


class Around:
    """A context with some resources."""

    run_id = "r"
    node_id = "n"

    def __init__(self, **resources):
        self.resources = resources
        self.asked = []

    def has_resource(self, name):
        return name in self.resources

    def get_resource_sync(self, name):
        self.asked.append(name)
        return self.resources[name]

    async def get_resource(self, name):
        await asyncio.sleep(0)
        return self.get_resource_sync(name)


def compiled(code, *, is_async=True, **more):
    return compile_code(code, node_id="n", is_async=is_async, **more)


async def run(code, context=None, **inputs):
    return await compiled(code).run(inputs, context or Around())


def run_sync(code, context=None, **inputs):
    return compiled(code, is_async=False).run(inputs, context or Around())


# -- values


@pytest.mark.parametrize(
    "code", ["result = x + 1", "return x + 1", "import asyncio\nresult = x + 1"]
)
async def test_inputs_are_names_and_result_is_the_value(code):
    """The value is what `result` is, or what the code returns; both kinds agree."""
    assert await run(code, x=1) == 2
    assert run_sync(code, x=1) == 2


async def test_top_level_await():
    """Asynchronous code awaits at its top."""

    async def double(x):
        await asyncio.sleep(0)
        return 2 * x

    assert await run("result = await double(x)", x=4, double=double) == 8
    assert await run("return [await double(y) for y in x]", x=[1, 2], double=double) == [2, 4]
    assert await run("if x:\n    return await double(x)\nresult = 0", x=0, double=double) == 0


async def test_without_result_the_assigned_public_names_are_the_value():
    """Imports, functions, classes and private names are no values."""
    code = "import re\ndef f(): pass\nclass C: pass\n_p = 1\ny = 5\nfor i in range(2): z = i\n"

    assert await run(code) == {"y": 5, "i": 1, "z": 1}
    assert await run("x", x=1) == {}


async def test_an_input_called_result_is_not_the_value_of_code_that_sets_none():
    """`result` counts when the code sets it, also by the back door."""
    assert await run("y = result + 1", result=1) == {"y": 2}
    assert await run("result = result + 1", result=1) == 2
    assert await run("globals()['result'] = 7") == 7


async def test_functions_in_the_code_see_inputs_and_each_other():
    """Names are global to the code: recursion, comprehensions and globals work."""
    code = """
        count = 0
        def fact(n):
            global count
            count += 1
            return 1 if n < 2 else n * fact(n - 1)
        result = [fact(k) * scale for k in range(4)], count
    """
    assert await run(code, scale=10) == ([10, 10, 20, 60], 7)
    assert await run(code.replace("result =", "return"), scale=10) == ([10, 10, 20, 60], 7)


async def test_return_leaves_names_global_and_annotations_harmless():
    """Code that returns behaves as the same code that does not."""
    code = "total: int = 0\nunused: str\ndef add(n):\n    global total\n    total += n\n"
    code += "for n in xs:\n    add(n)\n    if total > 3: return {'total': total}\nresult = total"

    assert await run(code, xs=[1, 2]) == 3
    assert await run(code, xs=[1, 2, 3]) == {"total": 6}
    assert await run("if x: return None\nresult = 1", x=1) is None
    assert await run("result = 1\nif x: return\nresult = 2", x=1) == 1


async def test_future_imports_stay_first():
    """Code that returns may begin with a future import."""
    assert (
        await run("from __future__ import annotations\ndef f(x: nope): return x\nreturn f(1)") == 1
    )


async def test_our_own_future_imports_are_not_theirs():
    """Annotations in the code are evaluated, unless it asks otherwise."""
    assert await run("def f(x: int): pass\nresult = f.__annotations__['x']") is int


async def test_each_run_has_a_namespace_of_its_own():
    """Nothing that a run sets is there in the next one, nor in one beside it."""
    code = compiled("seen.append('y' in globals())\ny = x\nawait gap()\nresult = y")
    seen = []

    async def gap():
        await asyncio.sleep(0)

    runs = (code.run({"x": x, "seen": seen, "gap": gap}, Around()) for x in range(50))
    assert await asyncio.gather(*runs) == list(range(50))
    assert seen == [False] * 50


async def test_hostile_input_names_reach_nothing():
    """Inputs do not replace builtins; names that are no identifiers are simply not reachable."""
    hostile = {"__builtins__": {}, "__name__": 3, "a b": 1, "class": 2, "": 3, "x\ny": 4}

    assert await run("result = len([__name__])", **hostile) == 1
    assert await run("result = globals()['a b']", **hostile) == 1


async def test_all_builtins_are_there():
    """Classes, super, TimeoutError and bytes work."""
    code = """
        class A:
            def f(self): return b"x"
        class B(A):
            def f(self): return super().f() * 2
        try:
            raise TimeoutError
        except (TimeoutError, NotImplementedError):
            result = B().f()
    """
    assert await run(code) == b"xx"


def test_wrapped_work_yields_result():
    """Nodes of `add_node` yield {"result": value}."""
    code = compiled("result = x", is_async=False)

    assert CodeWork(code, wrapped=True).run({"x": 1}, Around()) == {"result": 1}
    assert CodeWork(code).run({"x": 1}, Around()) == 1


async def test_wrapped_asynchronous_work_yields_result():
    """The same for asynchronous ones."""
    assert await CodeWork(compiled("result = 1"), wrapped=True).run({}, Around()) == {"result": 1}


# -- modules and resources


async def test_modules_need_no_import():
    """Modules of the list are there; an input of that name goes first."""
    assert await run("result = json.dumps([math.pi > 3])") == "[true]"
    assert await run("result = json", json=3) == 3
    assert run_sync("result = time.time() > 0 and os.path.sep") == "/"


async def test_a_module_that_is_not_installed_says_so_when_used():
    """The error names the module and what to do."""
    assert await run("if False: toml.loads('')\nresult = 1") == 1
    with pytest.raises(ModuleNotFoundError, match=r"aioboto3\.Session needs it. Install aioboto3"):
        await run("aioboto3.Session()")


async def test_resources_by_name():
    """A free name that the context has a resource for is that; inputs go first."""
    around = Around(redis="cache", api="client", unused=1)

    assert await run("result = redis, api", around) == ("cache", "client")
    assert run_sync("result = redis, api", around) == ("cache", "client")
    assert around.asked == ["api", "redis"] * 2
    assert await run("result = api", around, api=1) == 1
    assert await run("result = await get_resource('api')", around) == "client"


def test_synchronous_code_cannot_wait_for_resources_that_have_to_be_awaited():
    """The error says what kind of node to make."""

    class Plain:
        run_id = node_id = "n"

        async def get_resource(self, name):
            raise AssertionError

    with pytest.raises(NodeExecutionError, match="make it an AsyncPythonCodeNode"):
        run_sync("get_resource('x')", Plain())


async def test_unknown_names_are_told_with_what_is_there():
    """A NameError says which inputs the node got."""
    with pytest.raises(NameError, match="name 'foo' is not defined") as caught:
        await run("result = foo", a=1, b=2)

    assert caught.value.__notes__ == ["node 'n' got these inputs: a, b"]


# -- values that nobody can use


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("async def f(): pass\nresult = f()", "'result' is a coroutine of f() that nobody"),
        ("async def f(): pass\nreturn f()", "'result' is a coroutine of f()"),
        ("async def f(): pass\nresult = {'a': 1, 'b': f()}", "'b' is a coroutine of f()"),
        ("async def f(): pass\ny = f()", "'y' is a coroutine of f()"),
    ],
)
async def test_forgotten_awaits(code, said):
    """A coroutine as value is an error that says where to await; it is closed, not warned of."""
    with pytest.raises(NodeExecutionError) as caught:
        await run(code)
    assert said in str(caught.value)
    assert "put `await` before it" in str(caught.value)

    with pytest.raises(NodeExecutionError, match="only an AsyncPythonCodeNode can await"):
        run_sync(code)
    gc.collect()


async def test_awaited_ones_may_lie_around():
    """Tasks and coroutines that have been awaited are no values, and no errors."""
    code = "async def f(): return 1\nc = f()\nt = asyncio.create_task(f())\ny = await c + await t"

    assert await run(code) == {"y": 2}


@pytest.mark.parametrize("code", ["exit(3)", "raise SystemExit(3)", "next(iter([]))"])
async def test_code_cannot_end_the_loop_or_hang_it(code):
    """SystemExit, and StopIteration that no future can hold, become errors of the node."""
    for call in (lambda: run(code), lambda: asyncio.to_thread(run_sync, code)):
        with pytest.raises(NodeExecutionError, match="node 'n': its code raised S"):
            await call()


async def test_cancellation_is_not_touched():
    """A cancelled node raises CancelledError, and its finally blocks run."""
    left = []
    code = "try:\n    await asyncio.sleep(60)\nfinally:\n    left.append(1)"
    task = asyncio.create_task(run(code, left=left))
    await asyncio.sleep(0.01)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert left == [1]


# -- code that does not compile


@pytest.mark.parametrize(
    ("code", "line", "column", "said"),
    [
        ("result = = 1", 1, 10, "invalid syntax: result = = 1"),
        ("\n\n    x = 1\n    result = = 1\n", 4, 14, "invalid syntax"),
        ("x = 1\n  y = 2", 2, 2, "unexpected indent"),
        ("x = (\n", 1, 5, "'(' was never closed"),
        ("    x = '''\nhello\n'''\n    result = = x", 4, 14, "invalid syntax"),
        ("    x = 1\ny = 2", 2, 1, "indented less than the first line: y = 2"),
        ("    x = 1\nelse:\n    y = 2", 3, 5, "indented less than the first line"),
        ("    x = 1\nelif x:\n    y = 2", 2, 1, "indented less than the first line: elif x:"),
        ("    x = 1\n  y = 2", 2, 8, "unindent does not match any outer indentation level"),
        ("yield 3", 1, 1, "'yield' outside function"),
        ("x = 1\nyield 3\nreturn 1", 2, 1, "'yield' outside function"),
        ("class A:\n    return 1", 2, 5, "'return' outside function"),
        ("break", 1, 1, "'break' outside loop"),
        ("x = 1\ny = 'a\0b'", 2, 7, r"cannot have the character '\x00'"),
        ("x = '\ud800'", 1, 6, r"cannot have the character '\ud800'"),
        ("x = 'é'; y = = 1", 1, 14, "invalid syntax"),
        ("(" * 300, 1, 201, "too many nested parentheses"),
    ],
)
def test_wrong_code_is_refused_with_line_and_column(code, line, column, said):
    """The place is the one in the text as its author wrote it."""
    for is_async in (True, False):
        with pytest.raises(WorkflowValidationError) as caught:
            compiled(code, is_async=is_async)

        assert str(caught.value).startswith(f"node 'n', line {line}, column {column}: ")
        assert said in str(caught.value)


@pytest.mark.parametrize("code", ["await f()", "    async with x: pass", "async for x in y: pass"])
def test_synchronous_code_that_awaits_is_told_what_to_use(code):
    """The hint names the kind of node."""
    with pytest.raises(WorkflowValidationError, match=r"line 1, .*use AsyncPythonCodeNode"):
        compiled(code, is_async=False)
    compiled(code)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("", "its code is empty"),
        ("  \n# only words\n", "its code is empty"),
        ("-" * 100_000 + "1", "nested too deeply"),
    ],
)
def test_code_that_is_none(code, said):
    """Empty code and code that breaks the compiler are errors of the node, not of ours."""
    with pytest.raises(WorkflowValidationError, match=f"node 'n': .*{said}"):
        compiled(code)


@pytest.mark.parametrize("code", [None, 3, b"result = 1", ["x"], len])
def test_code_is_a_string(code):
    """Anything else is a TypeError that says what takes functions."""
    with pytest.raises(TypeError, match=r"node 'n': code must be a string, .*add_function"):
        compiled(code)


@given(st.text(max_size=60) | st.text(alphabet="abx=()[]{}:'\"\\\n\t #\r\f+*", max_size=60))
def test_any_text_compiles_or_is_refused(text):
    """No text makes the compiler raise anything but our errors."""
    try:
        compiled(text)
    except WorkflowValidationError as error:
        assert str(error).startswith("node 'n'")  # noqa: PT017
    except SyntaxWarning:
        pass  # warnings are errors here


# -- line numbers and tracebacks

MARGINS = st.sampled_from(["", " ", "    ", "\t", "        "])
LINES = st.lists(
    st.sampled_from(
        ["", "  ", "x = 1", "# words", "for i in []:\n    pass", "y = '''\n  some\ntext\n'''"]
    ),
    max_size=8,
)


@given(MARGINS, LINES, LINES, st.booleans(), st.sampled_from(["\n", "\r\n"]))
def test_line_numbers_survive_the_dedent(margin, before, after, returning, newline):
    """Whatever the indentation, an error is on the line of the text where its author wrote it.

    Text within a string of several lines keeps its own indentation, so that none is in common.
    """
    lines = "\n".join([*before, "1 / 0  # here", *after, *["return 3"] * returning]).split("\n")
    text = newline.join(_indented(lines, margin))
    wanted = next(n for n, line in enumerate(lines, 1) if "here" in line)

    with pytest.raises(ZeroDivisionError) as caught:
        run_sync(text)

    last = traceback.extract_tb(caught.value.__traceback__)[-1]
    assert last.lineno == wanted
    assert last.line == "1 / 0  # here"


def _indented(lines, margin):
    inside = False
    for line in lines:
        yield line if inside else margin + line
        inside ^= line.count("'''") % 2 == 1


async def test_traceback_shows_the_users_own_line():
    """`traceback.format_exc` has file, line number and text of each frame of the code."""
    code = """
        def inverse(x):
            return 1 / x  # of the code

        result = await wrap(inverse(y))
    """
    node = compile_code(code, node_id="fetch", is_async=True, workflow="pipeline")

    with pytest.raises(ZeroDivisionError) as caught:
        await node.run({"y": 0, "wrap": None}, Around())

    text = "".join(traceback.format_exception(caught.value))
    assert f'File "{node.file_name}", line 5, in <module>\n    result = await wrap(' in text
    assert "line 3, in inverse\n    return 1 / x  # of the code\n" in text
    assert node.file_name.startswith("<node fetch of pipeline #")


def test_linecache_entries_live_as_long_as_what_shows_them():
    """`checkcache` keeps them, a live traceback keeps them, and then they vanish."""
    node = compiled("1 / 0", is_async=False)
    file = node.file_name
    linecache.checkcache()
    assert linecache.getline(file, 1) == "1 / 0\n"

    try:
        node.run({}, Around())
    except ZeroDivisionError as error:
        kept = error
    del node
    gc.collect()
    assert "    1 / 0\n" in "".join(traceback.format_exception(kept))

    del kept
    gc.collect()
    assert file not in linecache.cache


def test_same_node_twice_has_two_files():
    """Two nodes of one id do not show each other's lines."""
    one, other = compiled("x = 1"), compiled("y = 2")

    assert linecache.getline(one.file_name, 1) == "x = 1\n"
    assert linecache.getline(other.file_name, 1) == "y = 2\n"


def test_hostile_node_ids_make_plain_file_names():
    """Line breaks and control characters do not get into tracebacks; long ids are cut."""
    node = compile_code("x = 1", node_id="a\n\x1b[31m" + "b" * 1000, is_async=True)

    assert node.file_name.isprintable()
    assert len(node.file_name) < 240


def test_thousands_of_compilations_leave_nothing():
    """Neither linecache nor memory grows."""

    def compile_many(count):
        for n in range(count):
            compiled(f"def f(x): return x + {n}\nresult = f({n})", is_async=False).run({}, Around())
        gc.collect()

    compile_many(200)
    files, blocks = len(linecache.cache), sys.getallocatedblocks()
    compile_many(3000)  # tracemalloc would keep the file names itself

    assert len(linecache.cache) == files
    assert sys.getallocatedblocks() - blocks < 300
