"""`MODULE:FLOW` leads to a flow, or to an error that says where it ended."""

from __future__ import annotations

import itertools
import sys
import textwrap

import pytest

from tracing.cli.targets import TargetError, load_flow

SHOP = """
    import sys
    from pocketflow_async import AsyncFlow, AsyncNode, Flow, Node

    print("loading the shop")

    class Cart(Node): pass
    class Pay(AsyncNode): pass

    def _built():
        cart = Cart(); cart - "pay" >> Pay()
        return AsyncFlow(start=cart)

    class Checkout(AsyncFlow):
        def __init__(self):
            super().__init__(start=_built().start_node)

    class Needy(AsyncFlow):
        def __init__(self, wallet):
            super().__init__(start=wallet)

    class Desk:
        flow = _built()

    flow = _built()
    number = 7
    empty = None

    def build(): return _built()
    def build_none(): return None
    def build_badly(): raise RuntimeError("no stock")
    def build_with(wallet, *, size=1): return _built()
    def leave(): sys.exit(3)
    async def build_later(): return _built()
"""

_names = itertools.count()


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """Write a module that no other test has, and return its name."""
    name = f"shop_{next(_names)}"
    (tmp_path / f"{name}.py").write_text(textwrap.dedent(SHOP))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield name
    sys.modules.pop(name, None)


def _refused(target):
    with pytest.raises(TargetError) as caught:
        load_flow(target)
    return str(caught.value)


@pytest.mark.parametrize("path", ["flow", "Checkout", "build", "Desk.flow"])
def test_flows_classes_and_functions(shop, path):
    """A flow, a class of one, and a function that returns one are all the same to draw."""
    drawing = load_flow(f"{shop}:{path}").to_mermaid()

    assert "Cart" in drawing
    assert '-->|"pay"|' in drawing


def test_a_file_does_as_well_as_a_module(shop, tmp_path, monkeypatch):
    """A path loads the same, from any folder."""
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")

    assert "Cart" in load_flow(f"../{shop}.py:flow").to_mermaid()
    assert "Cart" in load_flow(f"{tmp_path}/{shop}.py:flow").to_mermaid()


def test_a_file_imports_its_neighbours(tmp_path, shop, monkeypatch):
    """As when Python runs it, the folder of a file is importable."""
    (tmp_path / "far").mkdir()
    (tmp_path / "drawn.py").write_text(f"from {shop} import flow\n")
    monkeypatch.chdir(tmp_path / "far")

    assert "Cart" in load_flow("../drawn.py:flow").to_mermaid()


def test_what_the_module_prints_stays_out_of_the_drawing(shop, capsys):
    """A module's own output goes to standard error."""
    load_flow(f"{shop}:flow")

    captured = capsys.readouterr()
    assert captured.out == ""
    assert "loading the shop" in captured.err


@pytest.mark.parametrize("target", ["shop", "shop:", ":flow", ":", ""])
def test_no_colon(target):
    """A target without both sides is explained."""
    assert "write package.module:flow or path/to/file.py:flow" in _refused(target)


def test_no_such_module(shop):
    """The cause of a failed import is in the message."""
    assert "cannot import nowhere.at_all: ModuleNotFoundError: No module" in _refused(
        "nowhere.at_all:flow"
    )


def test_no_such_file(shop):
    """A path that leads nowhere is named."""
    assert _refused("flows/shop.py:flow") == ("cannot import flows/shop.py: there is no such file")


@pytest.mark.parametrize(
    ("source", "cause"),
    [
        ("x = 1\nimport no_such_thing\n", "No module named 'no_such_thing' (at {file}:2)"),
        ("x = \n", "SyntaxError: invalid syntax"),
        ("def f():\n  raise KeyError('k')\nf()\n", "KeyError: 'k' (at {file}:2)"),
        ("import sys\nsys.exit(4)\n", "SystemExit: 4 (at {file}:2)"),
    ],
)
def test_a_module_that_fails(tmp_path, shop, source, cause):
    """Whatever a module does while it is imported, its file and line are named."""
    file = tmp_path / "bad.py"
    file.write_text(source)

    assert cause.format(file=file) in _refused(f"{file}:flow")


def test_no_such_attribute_lists_the_flows(shop):
    """A wrong name is answered with the right ones."""
    assert _refused(f"{shop}:flows") == (
        f"{shop} has no 'flows'. Flows in it: {shop}:Checkout, {shop}:Needy, {shop}:flow"
    )


def test_no_flow_at_all(tmp_path, shop):
    """A module without flows says so, even when it imports the flow classes."""
    (tmp_path / "bare.py").write_text("from pocketflow_async import Flow, Node\n")

    assert _refused("bare.py:flow") == "bare.py has no 'flow'. There is no flow in it."


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("number", "is of type int, not a flow"),
        ("empty", "is None, not a flow"),
        ("build_none", "is None, not a flow"),
        ("build_later", "is an async function, not a flow"),
        ("Cart", "is the class Cart, which is not a flow"),
        ("Needy", "cannot be called without arguments (missing a required argument: 'wallet')"),
        ("build_with", "cannot be called without arguments (missing a required argument: "),
        ("build_badly", "failed: RuntimeError: no stock (at "),
        ("leave", "failed: SystemExit: 3 (at "),
        ("Desk", "is the class Desk, which is not a flow"),
    ],
)
def test_what_is_no_flow(shop, path, said):
    """Each wrong thing has its own sentence."""
    assert said in _refused(f"{shop}:{path}")
