"""Kills processes that change a library at random moments, and checks after each that nothing is lost.

Run: python crash_loop.py FOLDER ROUNDS SEED. It prints what it did as JSON, and ends at the first thing lost.

Each change runs in a process of its own, forked from this one, which loads LanceDB for all of them and never
uses it. A child says what it has finished through a pipe; what was said is acknowledged, and must be there
afterwards.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from pathlib import Path

import lancedb
import torch
from library_doubles import TinyEncoder, write_pictures

from steerclear.errors import LibraryError
from steerclear.library import Library, add, approximate, compaction, failures, verify

ENCODER = TinyEncoder()
ITEMS = 40  # at the beginning
NEW = 6  # pictures of an addition
CHANGES = ("add", "remove", "compact", "index", "purge", "calibrate")
assert lancedb.__version__  # loaded once, and not in each child


def change(uri: str, plan: dict, say) -> None:
    """Make one change; say what is acknowledged."""
    library = Library.open(uri)
    kind = plan["kind"]
    if kind == "add":
        paths = [Path(path) for path in plan["paths"]]
        report = add(library, paths, [ENCODER], batch=2, workers=1, on_progress=lambda state: say(state.done))
        assert not report.failed, report.failed
    elif kind == "remove":
        library.remove(plan["ids"])
    elif kind == "compact":
        library.compact(versions=plan["versions"])
    elif kind == "index":
        library.build_index()
    elif kind == "purge":
        library.purge(plan["ids"], why="loop")
    else:
        library.write_note("calibration", {"round": plan["round"]})
    say("finished")


def look(uri: str, plan: dict, say) -> None:
    """Say what the library holds, and what is wrong with it."""
    library = Library.open(uri)
    problems = [f"{problem.id}: {problem.reason}" for problem in verify(library)]
    query = library.vectors("tiny")[1][:1]
    best = library.index("tiny").matches(query, 1)[0]
    if not best or best[0][1] < 0.999:
        problems.append(f"the first item is not found: {best}")
    note = (library.read_note("calibration") or {}).get("round", -1)
    say([sorted(library.ids()), problems, note, [purge.finished for purge in library.purges()]])


def look_change_look(uri: str, plan: dict, say) -> None:
    """Make the same change again, and say what there was before and is afterwards."""
    look(uri, plan, say)
    began = time.monotonic()
    try:
        change(uri, plan, lambda value: None)
        say({"took": time.monotonic() - began})
    except LibraryError as error:
        say({"refused": str(error)})
    look(uri, plan, say)


def forked(work, uri: str, plan: dict, kill_after: float | None = None) -> tuple[list, int]:
    """Run `work` in a child; what it said once it had loaded everything, and its status."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(reader)

            def say(value) -> None:
                os.write(writer, (json.dumps(value) + "\n").encode())

            approximate.LEAST_ROWS = 1  # so that a small library can have an index
            compaction.MANY_FRAGMENTS = 5  # so that additions compact
            failures._forked = False  # what is refused is a child of a process that has opened a library
            say("ready")
            work(uri, plan, say)
            status = 0
        except LibraryError as error:
            say({"error": str(error)})
            status = 2
        except BaseException as error:
            say({"error": repr(error)})
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8") as stream:
        said = [json.loads(stream.readline() or '"dead"')]
        if kill_after is not None:
            time.sleep(kill_after)
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        said += [json.loads(line) for line in stream if line.endswith("\n")]
    _, status = os.waitpid(child, 0)
    return said[1:], os.waitstatus_to_exitcode(status)


def plan_of(kind: str, ids: list[str], folder: Path, number: int, dice: random.Random) -> dict:
    plan: dict = {"kind": kind, "round": number}
    if kind == "add":
        first = 1000 + number * NEW
        plan["paths"] = [str(path) for path in write_pictures(folder / "art", range(first, first + NEW))]
    elif kind in ("remove", "purge"):
        plan["ids"] = dice.sample(ids, 2)
    elif kind == "compact":
        plan["versions"] = dice.randint(1, 4)
    return plan


def held(said: list, moment: str) -> tuple[set[str], int, list[bool]]:
    """What a child saw in the library; fails if it does not open, or anything is wrong with it."""
    assert isinstance(next(iter(said), None), list), f"{moment}: the library does not open: {said}"
    ids, problems, note, purges = said[0]
    assert not problems, f"{moment}: {problems}"
    assert len(ids) == len(set(ids))
    return set(ids), note, purges


def main(folder: Path, rounds: int, seed: int) -> None:
    dice = random.Random(seed)
    uri = str(folder / "library")
    plan = {"kind": "add", "paths": [str(path) for path in write_pictures(folder / "art", range(ITEMS))]}
    forked(lambda uri, plan, say: (Library.create(uri, [ENCODER]), change(uri, plan, say)), uri, plan)
    known, note, _ = held(forked(look, uri, {})[0], "at the beginning")
    assert len(known) == ITEMS
    usual = dict.fromkeys(CHANGES, 1.0)
    killed, finished_before = Counter[str](), Counter[str]()
    for number in range(rounds):
        # each kind in turn; a library that has become small is added to
        kind = "add" if len(known) < ITEMS // 2 else CHANGES[number % len(CHANGES)]
        plan = plan_of(kind, ids=sorted(known), folder=folder, number=number, dice=dice)
        moment = f"round {number}, {plan}"
        print(f"{time.strftime('%H:%M:%S')} {moment}", file=sys.stderr, flush=True)
        said, status = forked(change, uri, plan, kill_after=dice.uniform(0, usual[kind]))
        assert status in (0, -signal.SIGKILL), f"{moment}: {said}"
        (killed if status else finished_before)[kind] += 1
        acknowledged = "finished" in said
        again, status = forked(look_change_look, uri, plan)
        if len(again) > 1:
            usual[kind] = again[1].get("took", usual[kind])
        now, note_now, _ = held(again, f"{moment}, after the kill")
        if kind == "add":
            stems = [Path(path).stem for path in plan["paths"]]
            done = max([value for value in said if isinstance(value, int)], default=0)
            assert known | set(stems[:done]) <= now <= known | set(stems), f"{moment}: {known ^ now}"
            after = known | set(stems)
        elif kind in ("remove", "purge"):
            gone = known - set(plan["ids"])
            assert now == gone or (now == known and not acknowledged), f"{moment}: {known ^ now}"
            after = gone
        else:
            assert now == known, f"{moment}: {known ^ now}"
            after = known
        assert note_now in ((number,) if kind == "calibrate" and acknowledged else (note, number)), moment
        if done_already := kind in ("remove", "purge") and now == after and "refused" in again[1]:
            assert "no item" in again[1]["refused"], f"{moment}: {again}"
        assert status == 0, f"{moment}, the second time: {again}"
        known, note, purges = held(again[-1:], f"{moment}, the second time")
        assert known == after, f"{moment}, the second time: {known ^ after}"
        assert done_already or "refused" not in again[1], f"{moment}: {again}"
        assert kind != "purge" or done_already or all(purges), moment
    print(json.dumps({"rounds": rounds, "killed": killed, "finished before the kill": finished_before}))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
