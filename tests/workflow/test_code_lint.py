"""The lint of code strings: the obvious is refused, with its place, unless it is allowed."""

from __future__ import annotations

import pytest

from pocketflow_async.workflow.code import compile_code
from pocketflow_async.workflow.errors import SafetyViolationError, WorkflowValidationError


def lint(code, *allow):
    return compile_code(code, node_id="n", is_async=True, allow=frozenset(allow))


REFUSED = [
    ("import subprocess", 1, "subprocess"),
    ("x = 1\nimport os, subprocess as s", 2, "subprocess"),
    ("from subprocess import run", 1, "subprocess"),
    ("def f():\n    import subprocess", 2, "subprocess"),
    ("result = eval('1')", 1, "eval"),
    ("f = eval", 1, "eval"),
    ("exec('x = 1')", 1, "exec"),
    ("compile('1', '', 'eval')", 1, "compile"),
    ("__import__('os')", 1, "__import__"),
    ("input()", 1, "input"),
    ("__builtins__['eval']('1')", 1, "eval"),
    ("import builtins\nbuiltins.exec('1')", 2, "exec"),
    ("import os\nos.system('true')", 2, "os.system"),
    ("os.popen('true')", 1, "os.popen"),
    ("from os import fork", 1, "os.fork"),
    ("os._exit(1)", 1, "os._exit"),
    ("os.execvp('sh', [])", 1, "os.execvp"),
    ("await asyncio.create_subprocess_shell('true')", 1, "asyncio.create_subprocess_shell"),
    ("from asyncio import subprocess", 1, "asyncio.subprocess"),
]


@pytest.mark.parametrize(("code", "line", "name"), REFUSED)
def test_refused_with_place_and_remedy(code, line, name):
    """The error names node, line, what it is, and how to allow it; allowing it works."""
    with pytest.raises(SafetyViolationError) as caught:
        lint(code)

    assert str(caught.value).startswith(f"node 'n', line {line}, column ")
    assert f": {name} is refused, since it " in str(caught.value)
    assert f"allow={{{name!r}}}" in str(caught.value)
    lint(code, name)
    lint(code, name.partition(".")[0])


@pytest.mark.parametrize(
    "code",
    [
        "result = df.eval('a + b')",
        "model.eval()",
        "result = re.compile('x')",
        "def compile(x): return x\nresult = compile(1)",
        "result = input + 1",
        "input = 3\nresult = input",
        "import os\nresult = os.environ, os.path.join('a', 'b')",
        "import concurrent.futures, psycopg2, requests",
        "class A:\n    def exec(self): pass\nA().exec()",
        "my.subprocess.run()",
    ],
)
def test_not_refused(code):
    """Methods and own functions of such names are not meant, nor are ordinary modules."""
    lint(code)


def test_all_are_told_at_once():
    """Each has a line of its own; the error is one of validation."""
    with pytest.raises(WorkflowValidationError) as caught:
        lint("import subprocess\n\nx = eval('1')")

    assert [problem.split(":")[0] for problem in caught.value.problems] == [
        "node 'n', line 1, column 1",
        "node 'n', line 3, column 5",
    ]
