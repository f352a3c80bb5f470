"""AsyncWorkflowBuilder: each method of the contract, its defaults, its metadata, its errors."""

from __future__ import annotations

import inspect
import os
import traceback

import pytest

from pocketflow_async.runtime import AsyncLocalRuntime
from pocketflow_async.workflow import (
    AsyncRetryPolicy,
    AsyncWorkflowBuilder,
    ErrorHandler,
    RetryPolicy,
    SafetyViolationError,
    WorkflowValidationError,
)


async def results(builder, inputs=None, **options):
    async with AsyncLocalRuntime(**options) as runtime:
        result = await runtime.execute_workflow_async(builder.build(), inputs or {})
    assert result["errors"] == {}, result["errors"]
    return result["results"]


DEFAULTS = {
    "add_async_code": {
        "timeout": 30,
        "max_concurrent_tasks": 10,
        "retry_policy": None,
        "error_handler": None,
        "required_resources": None,
        "description": None,
    },
    "add_parallel_map": {
        "input_field": "items",
        "output_field": "results",
        "max_workers": 10,
        "batch_size": None,
        "timeout_per_item": 5,
        "continue_on_error": False,
        "description": None,
    },
    "add_scatter_gather": {
        "worker_count": 4,
        "scatter_field": "items",
        "gather_field": "results",
        "description": None,
    },
    "add_resource_node": {"params": None, "output_field": "result", "description": None},
    "require_resource": {"health_check": None, "cleanup_handler": None, "description": None},
    "with_database": {
        "name": "db",
        "host": "localhost",
        "port": 5432,
        "database": None,
        "user": None,
        "password": None,
        "min_size": 10,
        "max_size": 20,
    },
    "with_http_client": {"name": "http", "base_url": None, "headers": None, "timeout": 30},
    "with_cache": {"name": "cache", "backend": "redis", "host": "localhost", "port": 6379},
    "build": {"workflow_id": None},
    "__init__": {"name": None, "resource_registry": None, "description": None},
}


@pytest.mark.parametrize("method", DEFAULTS)
def test_methods_have_the_defaults_of_the_contract(method):
    """Names, order and defaults are those of contract A.2; the rest is our own, by keyword."""
    parameters = inspect.signature(getattr(AsyncWorkflowBuilder, method)).parameters.values()
    found = {
        p.name: p.default
        for p in parameters
        if p.default is not p.empty and p.name not in ("new_id",)
    }

    assert found == DEFAULTS[method]
    assert list(found) == list(DEFAULTS[method])


def test_methods_that_add_return_ids_and_others_the_builder():
    """Decision 1 of the contract."""
    builder = AsyncWorkflowBuilder("pipeline")

    assert builder.with_database("db").with_cache("redis").with_http_client("api") is builder
    assert builder.require_resource("own", lambda: 1) is builder
    ids = [
        builder.add_async_code("a", "result = 1"),
        builder.add_parallel_map("m", "def process_item(item): return item"),
        builder.add_resource_node("r", "db", "fetch", {"query": "SELECT 1"}),
        builder.add_scatter_gather("s", "w", "g", "def process_item(item): return item"),
        builder.add_node("PythonCodeNode", "p", {"code": "result = 1"}),
        builder.add_function("f", len),
    ]
    assert ids == ["a", "m", "r", "s", "p", "f"]
    assert all(type(node_id) is str for node_id in ids)
    assert builder.add_connection("a", "result", "m", "items") is builder
    assert builder.connect("a", "result", mapping={"s": "items"}) is builder


async def test_code_yields_its_result_itself():
    """Decision 2: results[id] is the result; its keys are ports, and indentation is no matter."""
    builder = AsyncWorkflowBuilder()
    builder.add_async_code(
        "a",
        """
        # indented
        await asyncio.sleep(0)
        result = {"users": [1, 2]}
        """,
    )
    builder.add_async_code("b", "result = len(users)")
    builder.add_async_code("c", lambda users: {"twice": users * 2})
    builder.add_connection("a", "users", "b", "users").connect("a", "users", mapping={"c": "users"})

    assert await results(builder) == {
        "a": {"users": [1, 2]},
        "b": 2,
        "c": {"twice": [1, 2, 1, 2]},
    }


async def test_a_map_of_code_has_inputs_modules_and_definitions():
    """`process_item` sees what its code string sees; line numbers are the author's."""
    builder = AsyncWorkflowBuilder()
    builder.add_parallel_map(
        "m",
        """
        import math

        def helper(x):
            return math.floor(x)

        async def process_item(item):
            await asyncio.sleep(0)
            if item == 3:
                raise ValueError("three")
            return helper(item) * factor
        """,
        continue_on_error=True,
    )

    out = (await results(builder, {"items": [1.5, 2.5, 3], "factor": 10}))["m"]

    assert out["results"] == [10, 20]
    assert out["statistics"]["total"] == 3
    [entry] = out["errors"]
    assert {key: entry[key] for key in ("index", "success", "error", "error_type", "item")} == {
        "index": 2,
        "success": False,
        "error": "three",
        "error_type": "ValueError",
        "item": 3,
    }


async def test_a_map_of_a_function_takes_further_inputs_by_name():
    """The item comes first; other parameters are inputs of the node."""

    async def process(item, factor, offset=1):
        return item * factor + offset

    builder = AsyncWorkflowBuilder()
    builder.add_parallel_map("m", process, input_field="rows", output_field="made")

    assert list(builder.nodes["m"].inputs.known) == ["factor", "offset", "rows"]
    out = await results(builder, {"rows": (1, 2), "factor": 10})
    assert out["m"]["made"] == [11, 21]


@pytest.mark.parametrize(
    "function", [str.upper, len, lambda *item: item[0], "def process_item(x): return x"]
)
async def test_maps_of_any_callable(function):
    """Methods of built-in types, C functions, open signatures and code."""
    builder = AsyncWorkflowBuilder()
    builder.add_parallel_map("m", function)

    assert len((await results(builder, {"items": ["a"]}))["m"]["results"]) == 1


async def test_a_generator_of_a_node_feeds_a_map():
    """What a node yields may be read item by item, without a list in between."""

    async def numbers():
        for number in range(5):
            yield number

    builder = AsyncWorkflowBuilder()
    builder.add_function("numbers", numbers)
    builder.add_parallel_map("m", lambda item: item + 1)
    builder.connect("numbers", None, "m", "items")

    assert (await results(builder))["m"]["results"] == [1, 2, 3, 4, 5]


async def test_a_map_with_wrong_items_fails_with_the_words_of_the_contract():
    """A missing field names what is there; a dict is no list."""
    builder = AsyncWorkflowBuilder()
    work = builder.nodes[builder.add_parallel_map("m", lambda item: item)].work

    with pytest.raises(ValueError, match=r"Input field 'items' not found. Available: \['rows'\]"):
        await work.run({"rows": []}, None)
    with pytest.raises(ValueError, match="'items' must be a list or tuple, got dict"):
        await work.run({"items": {}}, None)


async def test_policies_of_a_node_are_enforced():
    """Retries come first, then the handler answers."""
    calls = []

    async def flaky():
        calls.append(1)
        raise ConnectionError("gone")

    builder = AsyncWorkflowBuilder()
    builder.add_async_code(
        "a",
        flaky,
        retry_policy=AsyncRetryPolicy(max_attempts=3, initial_delay=0.001),
        error_handler=ErrorHandler("fallback", {"error": True}),
    )

    assert await results(builder) == {"a": {"error": True}}
    assert len(calls) == 3


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda b: b.add_async_code("a", ""), WorkflowValidationError, "Code cannot be empty"),
        (lambda b: b.add_async_code("a", "x = (1"), WorkflowValidationError, "'a', line 1, column"),
        (lambda b: b.add_async_code("a", "\n  x = 1\n  y = = 2"), ValueError, "line 3, column"),
        (lambda b: b.add_async_code("a", "import subprocess"), SafetyViolationError, "subprocess"),
        (lambda b: b.add_async_code("a", None), TypeError, "not nothing"),
        (lambda b: b.add_async_code("a", b"x"), TypeError, "a string or a function"),
        (lambda b: b.add_async_code("a", "x = 1", timout=3), TypeError, "did you mean 'timeout'"),
        (lambda b: b.add_async_code("a", "x = 1", timeout=-1), ValueError, "'a': timeout"),
        (lambda b: b.add_async_code("a", "x = 1", allow="os"), TypeError, "allow"),
        (lambda b: b.add_parallel_map("a", "x = 1"), ValueError, "def process_item(item)"),
        (lambda b: b.add_parallel_map("a", "# def process_item(x)"), ValueError, "'a'"),
        (lambda b: b.add_parallel_map("a", "def process_item(x: return"), ValueError, "line 1"),
        (
            lambda b: b.add_parallel_map("a", "import subprocess\ndef process_item(x): 1"),
            ValueError,
            "subprocess",
        ),
        (lambda b: b.add_parallel_map("a", 5), TypeError, "'a': a function or a code string"),
        (lambda b: b.add_parallel_map("a", lambda: 1), TypeError, "must take an item"),
        (lambda b: b.add_parallel_map("a", len, max_workers=0), ValueError, "max_workers"),
        (lambda b: b.add_parallel_map("a", len, max_workers=2.0), TypeError, "max_workers"),
        (lambda b: b.add_parallel_map("a", len, max_workers=True), TypeError, "max_workers"),
        (lambda b: b.add_parallel_map("a", len, batch_size=0), ValueError, "batch_size"),
        (lambda b: b.add_parallel_map("a", len, timeout_per_item=0), ValueError, "timeout_per"),
        (lambda b: b.add_parallel_map("a", len, timeout_per_item="5"), TypeError, "timeout_per"),
        (lambda b: b.add_parallel_map("a", len, continue_on_error=1), TypeError, "True or False"),
        (lambda b: b.add_parallel_map("a", len, input_field=""), TypeError, "input_field"),
        (lambda b: b.add_parallel_map("a", len, output_field="errors"), ValueError, "output_field"),
        (lambda b: b.add_parallel_map("a", len, workers=3), TypeError, "takes no 'workers'"),
        (lambda b: b.add_parallel_map("a", len, max_worker=3), TypeError, "mean 'max_workers'"),
        (lambda b: b.require_resource("", len), TypeError, "the name of a resource"),
        (lambda b: b.require_resource("x", 5), TypeError, "factory must be callable"),
        (lambda b: b.require_resource("x", len, health_check=1), TypeError, "health_check"),
        (lambda b: b.with_database(5), TypeError, "the name of a resource"),
        (lambda b: b.with_database(port="5432"), TypeError, "port"),
        (lambda b: b.with_database(port=70000), ValueError, "port"),
        (lambda b: b.with_database(min_size=5, max_size=2), ValueError, "min_size (5)"),
        (lambda b: b.with_database(backend="oracle"), ValueError, "oracle"),
        (lambda b: b.with_http_client(headers="x"), TypeError, "headers"),
        (lambda b: b.with_http_client(timeout=0), ValueError, "timeout"),
        (
            lambda b: b.with_cache(backend="memcached"),
            ValueError,
            "Unsupported cache backend: memcached",
        ),
        (lambda b: type(b)(resource_registry=5), TypeError, "resource_registry"),
    ],
)
def test_wrong_arguments_get_clear_errors(call, error, text):
    """Each is refused when it is given, with the node and the argument; nothing is added."""
    builder = AsyncWorkflowBuilder()

    with pytest.raises(error) as caught:
        call(builder)

    assert text in str(caught.value)
    assert not builder.nodes
    assert not builder.list_required_resources()


def test_what_others_take_and_we_do_not_need_is_ignored():
    """Options of the original that have no effect here do not break its programs."""
    builder = AsyncWorkflowBuilder()

    assert builder.add_async_code("a", "result = 1", sandbox_mode="trusted", max_memory_mb=5) == "a"


def test_metadata_of_a_workflow():
    """The keys of contract A.2, in a stable order."""
    builder = AsyncWorkflowBuilder("pipeline", description="what for")
    builder.with_database("main_db", password="secret").with_cache("redis")
    builder.require_resource("own", lambda: 1, len, len, "mine")
    builder.add_async_code(
        "tracked",
        "result = await some_operation()",
        description="Important",
        required_resources=["database", "redis"],
        retry_policy=RetryPolicy(max_attempts=5),
        error_handler=ErrorHandler("fallback", {"e": 1}),
    )
    builder.add_async_code("plain", "result = 1")
    workflow = builder.build("id", team="x")

    assert workflow.metadata["async_workflow"] is True
    assert workflow.metadata["builder_version"] == "1.0"
    assert workflow.metadata["name"] == workflow.name == "pipeline"
    assert workflow.metadata["description"] == workflow.description == "what for"
    assert workflow.metadata["team"] == "x"
    assert workflow.metadata["required_resources"] == ["main_db", "redis", "own", "database"]
    assert workflow.metadata["resources"]["own"] == {
        "factory_type": "function",
        "description": "mine",
        "has_health_check": True,
        "has_cleanup": True,
    }
    assert workflow.metadata["resources"]["main_db"]["factory_type"] == "DatabasePoolFactory"
    assert "secret" not in str(workflow.metadata) + repr(workflow) + repr(builder._resources)
    said = builder.get_node_metadata("tracked")
    assert said == workflow.metadata["node_metadata"]["tracked"]
    assert said["description"] == "Important"
    assert said["required_resources"] == ["database", "redis"]
    assert said["retry_policy"]["max_attempts"] == 5
    assert said["error_handler"] == {"type": "fallback", "fallback_value": {"e": 1}}
    assert builder.get_node_metadata("plain") == builder.get_node_metadata("unknown") == {}
    assert len(workflow.nodes) == 2


class Registry:
    """A registry of the user's own."""

    def __init__(self, **resources):
        self.resources = resources

    def has_factory(self, name):
        return name in self.resources

    def register_factory(self, name, factory, **more):
        self.resources[name] = factory()

    async def get_resource(self, name):
        return self.resources[name]

    async def cleanup(self):
        """Nothing to close."""


async def test_declared_resources_are_there_by_name():
    """Code gets them by their bare names; the runtime takes the workflow's registry."""
    registry = Registry(cache={"a": 1})
    builder = AsyncWorkflowBuilder(resource_registry=registry)
    builder.require_resource("api", lambda: "API")
    builder.add_async_code("a", "result = (api, (await get_resource('cache'))['a'])")
    builder.add_parallel_map("m", "def process_item(item): return item + api")

    assert builder.get_resource_registry() is registry
    assert builder.build().nodes["a"].required_resources == ("api",)
    out = await results(builder, {"items": ["x"]})
    assert out["a"] == ("API", 1)
    assert out["m"]["results"] == ["xAPI"]


async def test_declaring_makes_nothing():
    """The registry has factories of all that is declared, and opens none of it."""
    made = []
    builder = AsyncWorkflowBuilder()
    builder.with_database("db", password="x").with_cache("db2", backend="memory")
    builder.require_resource("own", lambda: made.append(1))
    registry = builder.get_resource_registry()

    assert builder.list_required_resources() == ["db", "db2", "own"]
    assert all(registry.has_factory(name) for name in builder.list_required_resources())
    assert registry.list_resources() == {"db", "db2", "own"}
    assert not any(registry.has_resource(name) for name in registry.list_resources())
    assert made == []


def test_secrets_are_kept_apart():
    """Passwords, tokens, keys and all headers are in nothing that is shown."""
    builder = AsyncWorkflowBuilder()
    builder.with_database(backend="mysql", password="p4ss", server_public_key="k3y", user="u")
    builder.with_http_client(headers={"X-Custom": "h34d"}, auth=("u", "p4ss"))
    builder.with_cache(password="p4ss", ssl_password="t0k")
    workflow = builder.build()
    registry = builder.get_resource_registry()

    shown = repr([builder._resources, registry, vars(registry), workflow, dict(workflow.metadata)])
    shown += repr([made_by.factory for made_by in registry._registered.values()])

    assert not any(secret in shown for secret in ("p4ss", "k3y", "h34d", "t0k"))
    assert builder._resources["db"].secrets == {"password": "p4ss", "server_public_key": "k3y"}


def test_a_resource_may_be_declared_again():
    """The last declaration counts."""
    builder = AsyncWorkflowBuilder()
    builder.with_database("db", host="one").with_database("db", host="two")

    assert builder._resources["db"].config["host"] == "two"
    assert builder.list_required_resources() == ["db"]


@pytest.mark.parametrize(("backend", "port"), [("postgresql", 5432), ("mysql", 3306)])
def test_the_port_of_a_database_is_that_of_its_backend(backend, port):
    """What the signature says is meant for PostgreSQL."""
    builder = AsyncWorkflowBuilder().with_database(backend=backend)
    factory = builder.get_resource_registry()._registered["db"].factory

    assert factory.get_config()["port"] == port


def test_a_workflow_can_be_saved_and_loaded():
    """What is made of code and data comes back as it was."""
    documents = pytest.importorskip("pocketflow_async.workflow.documents")
    builder = AsyncWorkflowBuilder("saved")
    builder.add_async_code("a", "result = {'rows': [1]}", retry_policy=RetryPolicy(max_retries=2))
    builder.add_parallel_map("m", "def process_item(item): return item", max_workers=3)
    builder.add_scatter_gather("s", "w", "g", os.path.basename, worker_count=2)
    builder.add_resource_node("r", "db", "fetch", ["SELECT ${rows}"])
    builder.connect("a", "rows", mapping={"m": "items", "s": "items", "r": "rows"})
    workflow = builder.build()

    again = documents.from_dict(documents.to_dict(workflow))

    assert again.nodes == workflow.nodes
    assert again.connections == workflow.connections
    assert again.aliases == workflow.aliases
    assert all(spec.work is not None for spec in again.nodes.values())


CODES = [
    "def process_item(x):\n    return x + 1",
    "\tdef process_item(x):\n\t\treturn x + 1\n\t# end",
    "# first\n    async def process_item(x):\n        return x + 1  # end",
    "\r\n    def process_item(x):\r\n        return x + 1\r\n",
    "    text = '''\n  odd\n'''\n    def process_item(x):\n        return x + 1\n",
    "if True:\n    process_item = lambda x: x + 1",
    "import operator, functools\nprocess_item = functools.partial(operator.add, 1)",
    "result = 5\ndef process_item(x):\n    return x + 1\n\n\n",
    "class Adder:\n    async def __call__(self, x):\n        return x + 1\nprocess_item = Adder()",
]


@pytest.mark.parametrize("code", CODES)
async def test_any_way_to_write_process_item(code):
    """Indentation, line ends, comments at the end, and whatever can be called."""
    builder = AsyncWorkflowBuilder()
    builder.add_parallel_map("m", code)

    assert (await results(builder, {"items": [1, 2]}))["m"]["results"] == [2, 3]


async def test_tracebacks_of_items_show_the_lines_of_their_author():
    """The line number counts in the code string as it was written."""
    builder = AsyncWorkflowBuilder()
    builder.add_parallel_map(
        "m",
        """
        async def process_item(item):
            return 1 / item  # here
        """,
    )
    work = builder.nodes["m"].work

    with pytest.raises(RuntimeError) as caught:
        await work.run({"items": [0]}, Context())

    last = traceback.extract_tb(caught.value.__cause__.__traceback__)[-1]
    assert (last.lineno, last.line) == (3, "return 1 / item  # here")
    assert "node m" in last.filename


async def test_a_process_item_that_is_no_function_is_refused():
    """What cannot be called is named at the run."""
    builder = AsyncWorkflowBuilder()
    builder.add_parallel_map("m", "process_item = 5")

    with pytest.raises(TypeError, match="process_item is no function but int"):
        await builder.nodes["m"].work.run({"items": [0]}, Context())


class Context:
    """A context without resources."""

    run_id = "r"
    node_id = "m"

    async def get_resource(self, name):
        raise LookupError(name)
