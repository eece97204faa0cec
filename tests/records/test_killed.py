"""Killed at any moment: whatever was acknowledged is there, and the chain is whole."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from steerclear.records import Records

PROGRAM = Path(__file__).with_name("kill_writers.py")


def killed(url, rounds, writers):
    source = str(Path(__file__).parents[2] / "src")
    environment = os.environ | {"PYTHONPATH": source}
    command = [sys.executable, str(PROGRAM), url, str(rounds), str(writers)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def check(result, rounds):
    assert result["acknowledged"] >= rounds
    assert result["missing"] == []
    assert result["problems"] == []


def test_twenty_kills_of_two_writers_lose_nothing(url):
    check(killed(url, 20, 2), 20)


@pytest.mark.slow
def test_two_hundred_kills_of_four_writers_lose_nothing(url):
    check(killed(url, 200, 4), 200)


def test_threads_that_write_at_once_keep_one_chain(records, incident):
    threads = [
        threading.Thread(target=lambda: [records.incidents.append(incident()) for _ in range(5)])
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    verdict = records.verify()
    assert (verdict.records, verdict.problems) == (30, [])


def test_two_openings_of_one_new_file_at_once_make_one_database(tmp_path):
    failed = []

    def open_it():
        try:
            Records.open(str(tmp_path / "new.db")).close()
        except Exception as error:  # any at all would be one too many
            failed.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
