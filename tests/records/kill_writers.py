"""A program: forks writers on one database, kills them with SIGKILL, and says what became of their records.

Run as `python kill_writers.py URL ROUNDS WRITERS`; prints a JSON object.
"""

from __future__ import annotations

import json
import os
import random
import select
import signal
import sys
import time

from steerclear.records import Incident, Records
from steerclear.types import Detection, Outcome, Report

LONGEST = 0.08  # seconds that writers go on after the first has recorded something


def write(url: str, channel: int) -> None:
    """Records incidents without end, and says the id of each once it is acknowledged."""
    report = Report(
        "a fox",
        seed=1,
        outcome=Outcome.WITHHELD,
        detections=(Detection("nearest", flagged=True, score=0.9, threshold=0.8, matched="fox"),),
    )
    with Records.open(url) as records:
        while True:
            id = records.incidents.append(Incident.of(report))
            records.incidents.decide(id, "copy", "anna")
            os.write(channel, f"{id}\n".encode())


def start(url: str) -> tuple[int, int]:
    """Forks a writer; returns its process id and the end of the pipe that it writes to."""
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        try:
            write(url, writing)
        finally:
            os._exit(1)
    os.close(writing)
    return process, reading


def one_round(url: str, writers: int, chance: random.Random) -> list[str]:
    """Lets writers work for a moment, kills them all, and returns the ids that they have acknowledged."""
    running = [start(url) for _ in range(writers)]
    select.select([reading for _, reading in running], [], [])
    time.sleep(chance.uniform(0, LONGEST))
    for process, _ in running:
        os.kill(process, signal.SIGKILL)
    acknowledged = []
    for process, reading in running:
        _, status = os.waitpid(process, 0)
        assert os.WIFSIGNALED(status), "a writer ended by itself"
        with open(reading, "rb") as pipe:
            lines = pipe.read().decode()
        acknowledged += lines[: lines.rfind("\n") + 1].split()
    return acknowledged


def main(url: str, rounds: int, writers: int) -> None:
    chance = random.Random(20)
    acknowledged: list[str] = []
    problems: list[str] = []
    heads: list[str] = []
    for _ in range(rounds):
        acknowledged += one_round(url, writers, chance)
        with Records.open(url) as records:
            for head in heads[-1:] or [None]:
                verdict = records.verify(head)
            problems += verdict.problems
            heads.append(verdict.head)
            if len(heads) == rounds:
                logged = records.incidents.list(limit=1_000_000)
    decided = {incident.id for incident in logged if incident.decided is not None}
    missing = sorted(set(acknowledged) - decided)
    print(json.dumps({"acknowledged": len(acknowledged), "missing": missing, "problems": problems}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
