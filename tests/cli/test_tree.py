"""The tree of a trace: what has a line, and how the line looks."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from tracing.cli.view import ASCII
from tracing.record import (
    CANCELLED,
    FAILED,
    HALTED,
    INTERRUPTED,
    OUTCOMES,
    RUNNING,
    TIMED_OUT,
)

HEADER = 4
"""Lines above the tree: name, id, start, and an empty one."""


def test_small_trace(make, page):
    """A whole page: what the trace was, then flow, nodes, input and output."""
    load = make.span("Load", took=2.5, input=b'{"path":"a.txt"}', output=b'["a","b"]')
    save = make.span("Save", at=3, took=6)
    flow = make.span("Report", "flow", children=[load, save], input=b'{"n":1}')

    lines = page(make.tree(flow, name="Report", spans=3), width=49)

    assert lines[0] == "Report   ✓ completed   10.0 ms   3 spans"
    assert lines[1] == "trace    3f2a91bc0d4e4c4e8a8b8c8d8e8f9091"
    assert lines[2].startswith("started  2023-11-1")
    assert lines[2].endswith(", 1m ago")
    assert lines[HEADER:] == [
        "✓ Report                                  10.0 ms",
        '│  in   {"n":1}',
        "├─ ✓ Load                                 2.50 ms",
        '│     in   {"path":"a.txt"}',
        '│     out  ["a","b"]',
        "└─ ✓ Save                                 6.00 ms",
    ]


def test_header_names_session_user_and_tags(make, page):
    """What the trace was given to be found by is in its header, and only what it was given."""
    tree = make.tree(session_id="s-1", tags=("nightly", "eu"), metadata={"build": 7})

    lines = page(tree)

    assert "session  s-1" in lines
    assert "tags     nightly, eu" in lines
    assert "meta     build=7" in lines
    assert not any(line.startswith("user") for line in lines)


def test_retries_and_fallback(make, page):
    """A node that was retried says how often, why, how long it waited, and that it fell back."""
    node = make.span(
        "Ask",
        phases=[
            make.phase(attempt=0, took=100, outcome=FAILED, error=make.failure("busy"), wait=0.05),
            make.phase(attempt=1, took=20, outcome=FAILED, error=make.failure("gone")),
            make.phase("fallback"),
        ],
    )

    lines = page(make.tree(node), width=60)[HEADER:]

    assert lines == [
        "✓ Ask  2 attempts  fell back                         10.0 ms",
        "   ↻ attempt 1: ValueError: busy      100 ms, waited 50.0 ms",
        "   ↻ attempt 2: ValueError: gone                     20.0 ms",
    ]


def test_final_error_is_told_once(make, page):
    """The last attempt's error is the node's and the flow's: it is shown where it was raised."""
    error = make.failure("gone")
    tries = [
        make.phase(attempt=0, outcome=FAILED, error=make.failure("busy"), wait=0.05),
        make.phase(attempt=1, outcome=FAILED, error=error),
    ]
    node = make.span("Ask", outcome=FAILED, error=error, phases=tries)
    flow = make.span("Chat", "flow", outcome=FAILED, error=error, children=[node])

    lines = page(make.tree(flow, outcome=FAILED), width=60)[HEADER:]

    assert lines == [
        "✗ Chat  failed                                       10.0 ms",
        "└─ ✗ Ask  failed  2 attempts                         10.0 ms",
        "      ↻ attempt 1: ValueError: busy  1.00 ms, waited 50.0 ms",
        "      ValueError: gone",
        "      at /srv/lib/x.py:42 in f",
    ]


def test_many_failed_attempts_are_counted(make, page):
    """Three attempts have a line; `full` gives all of them one."""
    tries = [
        make.phase(attempt=n, outcome=FAILED, error=make.failure(f"no {n}"), wait=1.0)
        for n in range(9)
    ]
    tree = make.tree(make.span(phases=[*tries, make.phase(attempt=9)]))

    lines = page(tree)

    assert "10 attempts" in lines[HEADER]
    assert sum("↻ attempt" in line for line in lines) == 3
    assert lines[-1].strip() == "… 6 more failed attempts"
    assert sum("↻ attempt" in line for line in page(tree, full=True)) == 9


def test_suspension_shows_its_note_and_duration(make, page):
    """Waiting for a person is not hidden in the node's duration."""
    pause = make.phase("suspended", took=2_500, note="waiting for approval")

    lines = page(make.tree(make.span(phases=[make.phase(), pause])), width=60)

    assert lines[-1] == "   ‖ waiting for approval                   suspended 2.50 s"


def test_phases_have_lines_when_asked(make, page):
    """With `phases`, each phase has a line, and the spans opened in it are below it."""
    phases = [
        make.phase("prep", at=0),
        make.phase(at=1, attempt=0, outcome=FAILED, error=make.failure(), wait=0.5),
        make.phase(at=2, attempt=1),
        make.phase("post", at=8),
    ]
    call = make.span("fetch", "function", at=3, took=2, parent_id=phases[2].span_id)
    direct = make.span("later", "span", at=7, took=0.5)
    node = make.span("Ask", phases=phases, children=[call, direct])

    lines = page(make.tree(node), width=40, phases=True)[HEADER:]

    assert lines == [
        "✓ Ask  2 attempts                10.0 ms",
        "├─ ✓ prep                        1.00 ms",
        "├─ ✗ exec 1  failed              1.00 ms",
        "│     ValueError: boom",
        "│     at /srv/lib/x.py:42 in f",
        "│     ↻ waited 500 ms",
        "├─ ✓ exec 2                      1.00 ms",
        "│  └─ ✓ fetch()                  2.00 ms",
        "├─ ✓ later                        500 µs",
        "└─ ✓ post                        1.00 ms",
    ]


def test_without_phases_their_spans_are_the_nodes(make, page):
    """A span opened in exec stands under its node when phases are not shown."""
    phase = make.phase()
    call = make.span("fetch", "function", parent_id=phase.span_id)

    lines = page(make.tree(make.span("Ask", phases=[phase], children=[call])), width=40)

    assert lines[-1] == "└─ ✓ fetch()                     10.0 ms"


@pytest.mark.parametrize(
    ("name", "label"), [("Analyse", "[3]"), ("Other", "[3] Other"), ("", "[3] (no name)")]
)
def test_items_have_their_index(make, page, name, label):
    """An item repeats its batch's name only when it differs."""
    batch = make.span("Analyse", children=[make.span(name, "item", index=3)])

    assert page(make.tree(batch))[-1].startswith(f"└─ ✓ {label}  ")


def _batch(make, outcomes):
    items = [
        make.span("B", "item", at=n, index=n, outcome=outcome) for n, outcome in enumerate(outcomes)
    ]
    return make.tree(make.span("B", children=items))


def test_long_batches_are_folded(make, page):
    """The first ten items are shown, and what did not complete; the rest is counted."""
    outcomes = ["completed"] * 50
    outcomes[33], outcomes[4] = FAILED, FAILED
    tree = _batch(make, outcomes)

    lines = [line[3:] for line in page(tree)[HEADER + 1 :]]

    assert [line[2:6].strip() for line in lines[:-1]] == [*(f"[{n}]" for n in range(10)), "[33]"]
    assert lines[-1] == "… 39 more items, all completed"
    assert len(page(tree, full=True)) == HEADER + 51


def test_a_batch_one_longer_than_the_fold_is_whole(make, page):
    """A line that says `1 more` would save nothing."""
    assert len(page(_batch(make, ["completed"] * 11))) == HEADER + 12


def test_a_batch_that_failed_altogether_is_folded_too(make, page):
    """Failures come before cancellations, and both are counted when there are too many."""
    lines = page(_batch(make, ["completed"] * 10 + [CANCELLED] * 90 + [FAILED] * 30))

    assert sum("failed" in line for line in lines[:-1]) == 30
    assert sum("cancelled" in line for line in lines[:-1]) == 10
    assert lines[-1] == "└─ … 80 more items: 80 cancelled"


def test_long_loops_keep_both_ends(make, page):
    """A loop's first and last steps are shown, with the count of the others between them."""
    steps = [make.span(f"S{n}", at=n) for n in range(100)]

    lines = page(make.tree(make.span("Loop", "flow", children=steps)))[HEADER + 1 :]

    assert lines[19].startswith("├─ ✓ S19 ")
    assert lines[20] == "├─ … 75 more steps, all completed"
    assert lines[21].startswith("├─ ✓ S95 ")
    assert lines[-1].startswith("└─ ✓ S99 ")


def test_folding_keeps_phases(make, page):
    """Items are folded between the phases of their batch, in order."""
    phases = [make.phase("prep", at=0), make.phase("post", at=500)]
    items = [make.span("B", "item", at=n + 1, index=n) for n in range(50)]

    lines = page(make.tree(make.span("B", phases=phases, children=items)), phases=True)[
        HEADER + 1 :
    ]

    assert lines[0].startswith("├─ ✓ prep")
    assert lines[-2] == "├─ … 40 more items, all completed"
    assert lines[-1].startswith("└─ ✓ post")


def test_what_runs_shows_how_long_so_far(make, page):
    """An open span of a running trace has a duration that grows."""
    flow = make.span("Chat", "flow", took=None, outcome=RUNNING)

    lines = page(make.tree(flow, outcome=RUNNING, duration_ns=None))

    assert lines[0] == "Flow   ● running   1m 00s…   1 span"
    assert "still running" in lines[3]
    assert lines[-1].startswith("● Chat  running  ")
    assert lines[-1].endswith("  1m 00s…")


def test_what_was_interrupted_says_so(make, page):
    """After a crash the node that was open is marked, and its duration is not made up."""
    node = make.span("Ask", took=None, outcome=INTERRUPTED)

    lines = page(make.tree(node, outcome=INTERRUPTED, duration_ns=None, failures=1))

    assert lines[0] == "Flow   ↯ interrupted   ?   1 span, 1 failed"
    assert "process ended" in lines[3]
    assert lines[-1].startswith("↯ Ask  interrupted  ")
    assert lines[-1].endswith("  ?")


def test_dropped_records_are_told(make, page):
    """A trace with holes does not look whole."""
    assert any("12 records could not be kept" in line for line in page(make.tree(dropped=12)))


@pytest.mark.parametrize("outcome", [*OUTCOMES, RUNNING, INTERRUPTED, "from_a_later_version"])
def test_every_outcome_has_a_sign(make, page, outcome):
    """Outcomes differ by sign and word, not by colour alone; an unknown one is shown too."""
    line = page(make.tree(make.span(outcome=outcome)))[-1]

    assert (outcome == "completed") != (outcome.replace("_", " ") in line)
    assert line[0] in "✓✗⊘◷■○●↯?"


def test_signs_differ():
    """No two outcomes share a sign, in either alphabet."""
    assert len(set(ASCII.marks.values())) == len(ASCII.marks) == 8


@pytest.mark.parametrize("width", [40, 80, 100])
def test_no_line_is_wider_than_the_screen(make, page, width):
    """Long names, contents, errors and notes are cut, wide characters included."""
    error = make.failure("見" * 300, "Very" * 30 + "Error")
    tries = [make.phase(outcome=FAILED, error=error, wait=1.0), make.phase(attempt=1)]
    pause = make.phase("suspended", note="n" * 300)
    node = make.span(
        "N見" * 100,
        input=("見" * 300).encode(),
        output=b"x" * 3_000,
        phases=[*tries, pause],
        attributes={"key": "v" * 300},
    )
    failed = make.span("F" * 300, outcome=TIMED_OUT, error=error)

    lines = page(make.tree(make.span("R" * 200, "flow", children=[node, failed])), width=width)

    assert max(cell_len(line) for line in lines[HEADER:]) <= width
    assert sum("…" in line for line in lines) >= 6


def test_full_cuts_nothing(make, page):
    """With `full`, content runs over as many lines as it needs, and all frames are shown."""
    body = ('"' + "0123456789" * 40 + '"').encode()
    node = make.span(input=body, outcome=FAILED, error=make.failure())

    lines = page(make.tree(node), width=60, full=True)[HEADER + 1 :]

    content = [line for line in lines if "at /srv" not in line and "boom" not in line]
    assert "".join(line[8:] for line in content) == body.decode()
    assert max(map(len, lines)) <= 60
    assert "   at /srv/app/main.py:7 in main" in lines


def test_ascii_screen(make, page):
    """Where the encoding has no signs, letters and escapes stand in, and nothing is lost."""
    node = make.span("Größe", took=0.5, input='"ä"'.encode(), outcome=HALTED)

    lines = page(make.tree(make.span("F", "flow", children=[node])), width=60, signs=ASCII)

    assert all(line.isascii() for line in lines)
    assert lines[-2].startswith("`- # Gr\\xf6\\xdfe  halted ")
    assert lines[-2].endswith("500 us")
    assert lines[-1] == '      in   "\\xe4"'


def test_nothing_in_a_trace_drives_the_terminal(make, page):
    """Names, messages, notes, tags and content cannot smuggle escape sequences."""
    evil = "a\x1b[2Jb\rc\x9b31m"
    phases = [make.phase("suspended", note=evil), make.phase(outcome=FAILED, wait=1.0)]
    node = make.span(
        evil, input=evil.encode(), outcome=FAILED, error=make.failure(evil, evil), phases=phases
    )

    text = "\n".join(page(make.tree(node, name=evil, tags=(evil,), session_id=evil)))

    assert "\x1b" not in text
    assert "\r" not in text
    assert "\x9b" not in text


def test_files_below_the_current_folder_are_short(make, page):
    """An error's file is named as one would type it."""
    node = make.span(outcome=FAILED, error=make.failure())

    assert page(make.tree(node), here="/srv")[-1] == "   at lib/x.py:42 in f"
    assert page(make.tree(node), here="/sr")[-1] == "   at /srv/lib/x.py:42 in f"


def test_deep_traces(make, page):
    """A trace deeper than Python's stack is shown, cut at the right edge."""
    span = make.span("leaf")
    for _ in range(3_000):
        span = make.span("flow", "flow", children=[span])

    assert len(page(make.tree(span))) == HEADER + 3_001


def test_action_stands_beside_the_name(make, page):
    """What post returned leads to the next node, so it is where the eye goes on."""
    node = make.span("Ask", attributes={"action": "again", "tokens": 7})

    lines = page(make.tree(node), width=60)[HEADER:]

    assert lines[0].startswith("✓ Ask  → again  ")
    assert lines[1] == "   attr tokens=7"


def test_nothing_is_not_shown(make, page):
    """A node without input or output has no line that says null, unless all is asked for."""
    tree = make.tree(make.span(input=b"null", output=b"null"))

    assert len(page(tree)) == HEADER + 1
    assert [line.split() for line in page(tree, full=True)[-2:]] == [
        ["in", "null"],
        ["out", "null"],
    ]


def test_a_cancellation_is_no_error(make, page):
    """Where a sibling's failure met a node is chance; `full` tells it all the same."""
    error = make.failure("", "asyncio.exceptions.CancelledError")
    tree = make.tree(make.span(outcome=CANCELLED, error=error))

    assert len(page(tree)) == HEADER + 1
    assert "   asyncio.exceptions.CancelledError" in page(tree, full=True)


def test_errors_are_named_as_they_are_caught(make, page):
    """The class without its module; the module is there with `full`."""
    tree = make.tree(make.span(outcome=FAILED, error=make.failure("no", "shop.errors.Closed")))

    assert "   Closed: no" in page(tree)
    assert "   shop.errors.Closed: no" in page(tree, full=True)


def test_the_line_is_one_of_the_users_own(make, page):
    """A library's innermost line says less than the line that called it."""
    frames = (
        ("/srv/app/flow.py", 7, "Ask.exec"),
        ("/v/lib/python3.12/site-packages/httpx/_client.py", 900, "send"),
        ("/usr/lib/python3.12/asyncio/tasks.py", 520, "wait_for"),
        ("<frozen importlib._bootstrap>", 1, "f"),
    )
    error = make.failure()._replace(frames=frames)
    only = error._replace(frames=frames[1:2])

    assert page(make.tree(make.span(outcome=FAILED, error=error)))[-1] == (
        "   at /srv/app/flow.py:7 in Ask.exec"
    )
    assert page(make.tree(make.span(outcome=FAILED, error=only)))[-1].endswith("900 in send")


def test_a_fallback_that_failed_did_not_answer(make, page):
    """A node fell back only when its fallback came to an end."""
    phases = [make.phase(outcome=FAILED, error=make.failure()), make.phase("fallback")]
    node = make.span(outcome=FAILED, error=make.failure(), phases=phases)
    good = page(make.tree(node))[HEADER]
    phases[1] = make.phase("fallback", outcome=FAILED, error=make.failure())
    bad = page(make.tree(make.span(outcome=FAILED, error=make.failure(), phases=phases)))[HEADER]

    assert "fell back" in good
    assert "fell back" not in bad
