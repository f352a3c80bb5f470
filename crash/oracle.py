"""What must hold after a round, whatever was killed. Pure."""

from __future__ import annotations

from collections import Counter
from typing import Any

from crash.traps import ACTIONS, NODES


def broken(
    found: dict[str, Any], lines: list[dict[str, Any]], *, told: set[str] | None
) -> list[str]:
    """Return what does not hold, in words.

    Args:
        found: What the store has.
        lines: What has happened.
        told: Ids of the events that others were told of; None: there are no others.
    """
    runs = {run["run_id"]: run for run in found["runs"]}
    begun = {line["run"] for line in lines if line["what"] == "begun"}
    said = [f"{run}: forgotten, although it was acknowledged" for run in begun - runs.keys()]
    for name, run in runs.items():
        own = [line for line in lines if line.get("run", name) == name]
        wrong = (*_ended(run), *_journal(run), *_effects(run, own), *_events(run, told))
        said += [f"{name}: {words}" for words in wrong]
    if found["untold"]:
        said.append(f"the ends of {found['untold']} are still untold")
    return said


def halt_lost(found: dict[str, Any], lines: list[dict[str, Any]], may_finish: int) -> list[str]:
    """Return what does not hold about a halt, as long as it should hold.

    Args:
        found: What the store has.
        lines: What has happened.
        may_finish: How many actions were in flight, and may have been finished under it.
    """
    at = next((place for place, line in enumerate(lines) if line["what"] == "halted"), None)
    if at is None:
        return []
    said = []
    if found["state"] != "halt":
        said.append(f"a halt was acknowledged, and the state is {found['state']}")
    late = [line for line in lines[at:] if line["what"] == "committed" and line["node"] in ACTIONS]
    if len(late) > may_finish:
        said.append(f"{len(late)} actions were committed under a halt")
    return said


def _ended(run: dict[str, Any]) -> list[str]:
    if run["status"] != "completed":
        return [f"its status is {run['status']}: {run['error']}"]
    return [] if run["owner"] is None else ["it has ended, and somebody still has it"]


def _journal(run: dict[str, Any]) -> list[str]:
    entries = run["entries"]
    said = []
    if [entry["place"] for entry in entries] != list(range(1, len(entries) + 1)):
        said.append("its journal has gaps")
    done = Counter(entry["node_id"] for entry in entries if entry["phase"] == "completed")
    if done != Counter(NODES):
        said.append(f"its nodes were committed {dict(done)} times")
    for node in NODES:
        numbers = [
            entry["attempt"]
            for entry in entries
            if entry["node_id"] == node and entry["phase"] == "started"
        ]
        if numbers != list(range(1, len(numbers) + 1)):
            said.append(f"the attempts of {node} are {numbers}")
    return said


def _effects(run: dict[str, Any], lines: list[dict[str, Any]]) -> list[str]:
    said = []
    counts = Counter(line["node"] for line in lines if line["what"] == "effect")
    for node in NODES:
        if node in ACTIONS and counts[node] != 1:
            said.append(f"{node} has taken effect {counts[node]} times")
        elif not counts[node]:
            said.append(f"{node} was never done")
    # A process that was stopped in a node comes back into it, with what it was about to do.
    asleep = {(line["pid"], line["node"]) for line in lines if line["what"] == "stopped"}
    committed: set[str] = set()
    for line in lines:
        if line["what"] == "committed":
            committed.add(line["node"])
        elif line["what"] != "effect" or (line["pid"], line["node"]) in asleep:
            continue
        elif line["node"] in committed:
            said.append(f"{line['node']} was done again after it was committed")
    return said


def _events(run: dict[str, Any], told: set[str] | None) -> list[str]:
    events = run["events"]
    said = []
    if [event["seq"] for event in events] != list(range(1, run["seq"] + 1)):
        said.append(f"its events are numbered {[event['seq'] for event in events]}")
    kinds = Counter(event["type"] for event in events)
    if kinds["execution_started"] != 1 or kinds["execution_completed"] != 1:
        said.append(f"its events are {dict(kinds)}")
    if kinds["node_completed"] != len(NODES):
        said.append(f"{kinds['node_completed']} nodes were told of as completed")
    if not events or events[-1]["type"] != "execution_completed":
        said.append("its end is not its last event")
    if told is not None:
        lost = [event["type"] for event in events if event["event_id"] not in told]
        if lost:
            said.append(f"nobody was told of {lost}")
    return said
