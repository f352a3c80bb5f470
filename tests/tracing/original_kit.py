"""The original `pocketflow` as it is on PyPI, and as it is in git HEAD."""

import inspect
import sys
import types

import pocketflow

_CHANGES = (
    ("for i in range(self.max_retries)", "for self.cur_retry in range(self.max_retries)"),
    (
        "if i==self.max_retries-1: return await",
        "if self.cur_retry==self.max_retries-1: return await",
    ),
)


def copy_of(name, *changes):
    """Make a module of the original's source with some texts replaced, as somebody's own copy."""
    source = inspect.getsource(pocketflow)
    for before, after in changes:
        assert before in source, before
        source = source.replace(before, after)
    module = types.ModuleType(name)
    module.__file__ = f"/somewhere/{name}.py"
    exec(compile(source, module.__file__, "exec"), module.__dict__)
    sys.modules[name] = module
    return module


HEAD = copy_of("pocketflow_head", *_CHANGES)
"""As the contract describes it: HEAD sets `cur_retry` on asynchronous nodes."""

ORIGINALS = {"0.0.3": pocketflow, "head": HEAD}
