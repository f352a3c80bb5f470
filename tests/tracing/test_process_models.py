"""Every way to run a program: what it has finished arrives, once, and its end is not held up."""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter

import pytest

from tests.tracing.process_kit import EXIT, Program, whole
from tests.tracing.wire_kit import Fault, GrpcSink, HttpSink, attributes

DOWN = Fault(status=503, code="UNAVAILABLE")
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


@pytest.fixture
def sink():
    with HttpSink() as sink:
        yield sink


def next_process(env, sink, **more) -> Counter[str]:
    """Let another process run and send; return what has arrived by then, but for its own run."""
    Program("run('next'); tracing.flush(20)", env, sink, **more).ends()
    found = whole(sink.spans, once=False)
    assert found["next"] >= 1
    del found["next"]
    return found


# --- loops ----------------------------------------------------------------------------------------


def test_asyncio_run_again_and_again(child_env, sink):
    """One traced flow in several loops, one after the other; a flush in between hurts nothing."""
    code = """
made = flow("again")
for number in range(4):
    asyncio.run(made.run_async({}))
    if number == 1:
        assert tracing.flush(10).sent == 6
"""
    Program(code, child_env, sink).ends()

    assert whole(sink.spans) == {"again": 4}


def test_uvloop(child_env, sink, require):
    """Another loop than asyncio's own, with many runs at once."""
    pytest.importorskip("uvloop")
    code = """
import uvloop
made = flow("on uvloop")
async def main():
    await asyncio.gather(*(made.run_async({}) for _ in range(20)))
    assert (await tracing.aflush(10)).failed == 0
with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    runner.run(main())
    assert type(runner.get_loop()).__module__.startswith("uvloop")
"""
    Program(code, child_env, sink).ends()

    assert whole(sink.spans) == {"on uvloop": 20}


def test_cells_in_a_loop_that_runs_all_the_time(child_env, sink):
    """As in Jupyter: each cell is code with `await` at its top, run in the loop that goes on."""
    code = """
import ast, types
async def cell(text, space):
    code = compile(text, "<cell>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    done = types.FunctionType(code, space)()
    if done is not None:
        await done
async def kernel():
    space = globals()
    await cell("made = flow('cell')", space)
    await cell("await made.run_async({})", space)
    await cell("await asyncio.gather(made.run_async({}), made.run_async({}))", space)
    await cell("print('counts', json.dumps(tracing.flush(10)))", space)
    await cell("task = asyncio.ensure_future(made.run_async({}))", space)
    await cell("await task; counts = await tracing.aflush(10)", space)
    assert space["counts"] == (12, 12, 0, 0), space["counts"]
asyncio.run(kernel())
"""
    program = Program(code, child_env, sink)
    assert program.hears("counts") == "[9, 9, 0, 0]"
    program.ends()

    assert whole(sink.spans) == {"cell": 4}


def test_a_loop_in_a_thread_that_runs_for_ever(child_env, sink):
    """Coroutines handed to a loop in a daemon thread, which is still running at the end."""
    code = """
loop = asyncio.new_event_loop()
threading.Thread(target=loop.run_forever, daemon=True).start()
made = flow("handed over")
some = [asyncio.run_coroutine_threadsafe(made.run_async({}), loop) for _ in range(5)]
for one in some:
    one.result(10)
"""
    Program(code, child_env, sink).ends()

    assert whole(sink.spans) == {"handed over": 5}


# --- threads --------------------------------------------------------------------------------------


def test_daemon_threads_that_go_on_at_the_end(child_env, sink):
    """Runs in daemon threads while the process ends: it ends, and what was finished arrives."""
    code = """
def work():
    while True:
        run("daemon")
for _ in range(3):
    threading.Thread(target=work, daemon=True).start()
run("main")
is_stored("daemon", "daemon", "daemon")
"""
    err = Program(code, child_env, sink).ends()
    ended = {s.trace_id for s in sink.spans if not s.parent_span_id and s.status.code == 1}
    found = whole(span for span in sink.spans if span.trace_id in ended)

    assert "Fatal" not in err
    assert found["main"] == 1
    assert found["daemon"] >= 3


# --- ends -----------------------------------------------------------------------------------------


ENDS = {
    "sys.exit": ("sys.exit(3)", 3, "SystemExit: 3"),
    "interrupt": ("os.kill(os.getpid(), signal.SIGINT); await asyncio.sleep(9)", None, "cancelled"),
    "error": ("raise ValueError('bad')", 1, "ValueError: bad"),
}


@pytest.mark.parametrize("name", ENDS)
def test_a_run_that_ends_the_process_is_told_as_it_ended(child_env, sink, name):
    """`sys.exit`, Ctrl-C and an error from inside a node: the run arrives, with what ended it."""
    statement, returned, said = ENDS[name]
    code = f"""
class Last(AsyncNode):
    async def exec_async(self, number):
        {statement}
asyncio.run(flow("last", Step(), Last()).run_async({{}}))
"""
    began = time.monotonic()
    program = Program(code, child_env, sink)
    program.ends(returned)

    assert program.child.returncode != 0
    assert time.monotonic() - began < 5 + EXIT
    roots = [span for span in sink.spans if not span.parent_span_id]
    assert [(span.name, span.status.code) for span in roots] == [("last", 2)]
    assert roots[0].status.message.startswith(said)
    assert len(sink.spans) == 2 + 4 + 3  # the last node has no post, and so the flow has none


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_process_that_is_killed_is_sent_by_the_next(child_env, sink, number):
    """SIGTERM without a handler, and SIGKILL: finished runs arrive, an open one as interrupted."""
    sink.fault = DOWN
    code = """
class Stuck(AsyncNode):
    async def exec_async(self, prep):
        await is_open("stuck")
        print("stuck", flush=True)
        await asyncio.sleep(60)
run("finished")
run("finished")
asyncio.run(flow("stuck", Stuck()).run_async({}))
"""
    program = Program(code, child_env, sink)
    program.hears("stuck")
    program.child.send_signal(number)
    program.ends(-number)
    assert sink.spans == []
    sink.fault = Fault()
    Program("run('next'); tracing.flush(20)", child_env, sink).ends()

    open_ = [span for span in sink.spans if span.status.message.startswith("interrupted")]
    assert {"stuck", "Stuck"} <= {span.name for span in open_}
    traces = {span.trace_id for span in open_}
    assert whole(span for span in sink.spans if span.trace_id not in traces) == {
        "finished": 2,
        "next": 1,
    }


@pytest.mark.parametrize("kind", [HttpSink, GrpcSink])
def test_a_target_that_hangs_holds_the_end_up_for_two_seconds_at_most(child_env, kind):
    """Also while threads of the program's own and a running pool are there; all arrives later."""
    protocol = "grpc" if kind is GrpcSink else "http/protobuf"
    with kind() as sink:
        sink.fault = Fault(hang=True)
        code = """
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(3) as pool:
    list(pool.map(lambda number: run("hung", number), range(6)))
"""
        Program(code, child_env, sink, protocol=protocol).ends()
        sink.fault = Fault()
        sink.closing.set()

        assert next_process(child_env, sink, protocol=protocol) == {"hung": 6}


def test_a_short_process_sends_what_another_has_left(child_env, sink):
    """Without a flush, and over long before the sender would have looked around by itself."""
    sink.fault = DOWN
    Program("run('left')", child_env, sink).ends()
    sink.fault = Fault()
    Program("run('short')", child_env, sink).ends()

    assert whole(sink.spans) == {"left": 1, "short": 1}


# --- other processes ------------------------------------------------------------------------------


@forks
def test_a_fork_inside_a_node_continues_the_trace_in_both(child_env, sink):
    """Spans that are open at the fork are the parent's; the child's own hang under them."""
    code = """
class Fork(AsyncNode):
    async def exec_async(self, prep):
        children = []
        for number in range(2):
            child = os.fork()
            if not child:
                with tracing.span(f"child {number}"):
                    pass
                counts = tracing.flush(10)
                os._exit(0 if counts == (1, 1, 0, 0) else 7)
            children.append(child)
        with tracing.span("parent"):
            await is_open("forking")
        for child in children:
            assert os.waitpid(child, 0)[1] == 0
run("before")
asyncio.run(flow("forking", Fork()).run_async({}))
"""
    Program(code, child_env, sink).ends()

    ids = Counter(span.span_id for span in sink.spans)
    assert set(ids.values()) == {1}
    by_id = {span.span_id: span for span in sink.spans}
    assert Counter(by_id[span.parent_span_id].name for span in sink.spans if "d " in span.name) == {
        "Fork.exec": 2
    }
    (own,) = [span for span in sink.spans if span.name == "parent"]
    assert by_id[own.parent_span_id].name == "Fork.exec"
    (root,) = [span for span in sink.spans if span.name == "forking"]
    rest = [span for span in sink.spans if span.trace_id != root.trace_id]
    assert whole(rest) == {"before": 1}
    assert len(sink.spans) - len(rest) == 3 + 4 + 3


PREFORK = """
def serve(number):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    made = flow(f"worker {number}")
    for _ in range(3):
        asyncio.run(made.run_async({}))
    is_stored(*[f"worker {number}"] * 3)
    os.write(1, b"served\\n")  # in one piece: the others write there too
    while True:
        time.sleep(1)
run("master")
time.sleep(float(sys.argv[1]))
workers = []
for number in range(3):
    worker = os.fork()
    if not worker:
        serve(number)
    workers.append(worker)
os.write(1, f"workers {json.dumps(workers)}\\n".encode())
run("master")
sys.stdin.readline()
for worker in workers:
    os.waitpid(worker, 0)
run("master")
"""


def served(program: Program) -> list[int]:
    """Wait until all workers have done their runs; return their process ids."""
    said = [program.hears("") for _ in range(4)]
    assert sorted(said)[:3] == ["served"] * 3
    (line,) = [line for line in said if line.startswith("workers")]
    return list(json.loads(line.removeprefix("workers")))


@forks
@pytest.mark.parametrize("pause", ["0", "0.5", "0.55", "0.6", "0.7", "1.5"])
def test_workers_forked_by_a_master_that_traces_itself(child_env, sink, pause):
    """As gunicorn does it, at any moment of the master's own sending; each sends its own, once."""
    program = Program(PREFORK, child_env, sink, pause)
    for worker in served(program):
        os.kill(worker, signal.SIGTERM)
    assert program.child.stdin is not None
    program.child.stdin.write("\n")
    program.ends()

    assert whole(sink.spans) == {"master": 3, **{f"worker {n}": 3 for n in range(3)}}


@forks
def test_workers_that_are_killed_leave_what_they_had_to_the_next_process(child_env, sink):
    """Workers die by SIGKILL while the target is down; master and the next process lose nothing."""
    sink.fault = DOWN
    program = Program(PREFORK, child_env, sink, "0")
    for worker in served(program):
        os.kill(worker, signal.SIGKILL)
    assert program.child.stdin is not None
    program.child.stdin.write("\n")
    program.ends()
    sink.fault = Fault()

    assert next_process(child_env, sink) == {"master": 3, **{f"worker {n}": 3 for n in range(3)}}


@forks
@pytest.mark.parametrize("flushed", [True, False])
def test_a_worker_for_each_task_that_ends_without_goodbye(child_env, sink, flushed):
    """As Celery may: `os._exit` after each task. Flushed, all is there; else the next sends it."""
    sink.fault = Fault() if flushed else DOWN
    last = "tracing.flush(10)" if flushed else "is_stored(f'task {number}')"
    code = f"""
run("master")
for number in range(4):
    worker = os.fork()
    if not worker:
        run(f"task {{number}}")
        {last}
        os._exit(0)
    assert os.waitpid(worker, 0)[1] == 0
"""
    Program(code, child_env, sink).ends()
    expected = {"master": 1, **{f"task {number}": 1 for number in range(4)}}

    if flushed:
        assert whole(sink.spans) == expected
    else:
        sink.fault = Fault()
        assert next_process(child_env, sink) == expected


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_pool_of_multiprocessing(child_env, sink, method, tmp_path):
    """Workers of every kind send what they did before they end, without a flush."""
    code = f"""
import multiprocessing
if __name__ == "__main__":
    run("main")
    context = multiprocessing.get_context({method!r})
    pool = context.Pool(2, maxtasksperchild=3)
    assert pool.starmap(run, [("pooled", n) for n in range(8)], chunksize=1) == list(range(8))
    pool.close()
    pool.join()
"""
    Program(code, child_env, sink).ends(within=EXIT)

    assert whole(sink.spans) == {"main": 1, "pooled": 8}


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_process_pool_executor(child_env, sink, method):
    """The workers of concurrent.futures likewise."""
    code = f"""
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
if __name__ == "__main__":
    run("main")
    context = multiprocessing.get_context({method!r})
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        assert list(pool.map(run, ["pooled"] * 6, range(6))) == list(range(6))
"""
    Program(code, child_env, sink).ends()

    assert whole(sink.spans) == {"main": 1, "pooled": 6}


def test_a_subprocess_that_continues_the_trace(child_env, sink):
    """By its environment: one tree in the receiver, session and user on both sides."""
    inner = """
with tracing.incoming():
    run("inner")
"""
    code = f"""
import subprocess
class Call(AsyncNode):
    async def exec_async(self, prep):
        head = Program.HEAD
        command = [sys.executable, "-c", head + {inner!r}]
        subprocess.run(command, env=tracing.child_environment(), check=True, timeout=30)
with tracing.propagate(session_id="s-1", user_id="u-1"):
    asyncio.run(flow("outer", Call()).run_async({{}}))
"""
    Program(code, child_env, sink).ends()

    by_id = {span.span_id: span for span in sink.spans}
    assert len(by_id) == len(sink.spans) == 3 + 4 + 11
    (inner_root,) = [span for span in sink.spans if span.name == "inner"]
    assert by_id[inner_root.parent_span_id].name == "Call.exec"
    assert [span.name for span in sink.spans if not span.parent_span_id] == ["outer"]
    assert len({span.trace_id for span in sink.spans}) == 1
    for span in sink.spans:
        said = attributes(span)
        assert (said["session.id"], said["user.id"]) == ("s-1", "u-1")


@forks
@pytest.mark.parametrize("sent_before", [True, False])
def test_grpc_over_a_fork(child_env, sent_before):
    """A channel that is open at the fork stays the parent's; the child opens its own."""
    first = "tracing.flush(10)" if sent_before else ""
    code = f"""
run("parent")
{first}
children = []
for number in range(3):
    child = os.fork()
    if not child:
        run("child")
        counts = tracing.flush(10)
        os._exit(0 if counts.sent == 3 else 7)
    children.append(child)
run("parent")
for child in children:
    assert os.waitpid(child, 0)[1] == 0
run("parent")
assert tracing.flush(10).failed == 0
"""
    with GrpcSink() as sink:
        program = Program(code, child_env, sink, protocol="grpc")
        program.ends()

        assert whole(sink.spans) == {"parent": 3, "child": 3}


@forks
@pytest.mark.parametrize("wanted", ["requests", "urllib3"])
def test_a_fork_while_the_sender_still_loads_its_modules(child_env, sink, wanted):
    """Its thread is gone in the child, but what it was importing can be imported there."""
    code = f"""
import importlib.abc, importlib.util
slow = threading.Event()
class Slow(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "requests" and threading.current_thread().name.startswith("trace-sender"):
            slow.set()
            time.sleep(0.4)
sys.meta_path.insert(0, Slow())
assert "requests" not in sys.modules
run("parent")
assert slow.wait(10)
child = os.fork()
if not child:
    signal.alarm(20)
    import {wanted}
    run("child")
    os._exit(0 if tracing.flush(10).sent == 3 else 7)
status = os.waitpid(child, 0)[1]
assert status == 0, status
"""
    Program(code, child_env, sink).ends()

    assert whole(sink.spans) == {"parent": 1, "child": 1}


@forks
def test_forks_at_any_moment(child_env, sink):
    """While threads of the parent run flows and send, a child can do the same."""
    code = """
run("thread")
def work(number):
    for turn in range(6):
        run("thread")
threads = [threading.Thread(target=work, args=(n,)) for n in range(2)]
for thread in threads:
    thread.start()
children = []
for number in range(12):
    time.sleep(0.01 * number)
    child = os.fork()
    if not child:
        signal.alarm(25)
        run("child")
        os._exit(0 if tracing.flush(20).sent == 3 else 7)
    children.append(child)
for thread in threads:
    thread.join()
statuses = [os.waitpid(child, 0)[1] for child in children]
assert statuses == [0] * 12, statuses
"""
    Program(code, child_env, sink).ends()

    assert whole(sink.spans) == {"thread": 13, "child": 12}
