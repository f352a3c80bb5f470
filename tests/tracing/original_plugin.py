"""A pytest plugin that runs every test inside a traced run, so that original flows are watched."""

from tracing import TracingConfig, trace_flow


def pytest_collection_modifyitems(items):
    decorate = trace_flow(TracingConfig(store="memory"), flow_name="test")
    for item in items:
        item.obj = decorate(item.obj)
