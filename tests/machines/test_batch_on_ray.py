"""A batch on a Ray cluster, whose driver and actors are killed: each output once, as one process makes it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from uuid import uuid4

import pytest
from batch_doubles import options, pictures, results, run, start, write_rows
from serve_doubles import COPIED, ORDINARY, ROOT

from steerclear.cli.batch.outputs import Outputs

ray = pytest.importorskip("ray")
PATIENCE = 400.0


@pytest.fixture
def cluster(bucket, monkeypatch):
    """Two CPUs, whose processes see the bucket. Yields a mark that all of them have in their environment."""
    mark = uuid4().hex
    monkeypatch.setenv("STEERCLEAR_TEST", mark)
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    monkeypatch.setenv("RAY_worker_niceness", "0")  # else a busy machine starves its actors
    context = ray.init(num_cpus=2, log_to_driver=False, include_dashboard=False, configure_logging=False)
    monkeypatch.setenv("RAY_ADDRESS", context.address_info["gcs_address"])
    yield mark
    ray.shutdown()


def actors(mark: str) -> list[int]:
    """Ids of the processes of the cluster's actors."""
    listed = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            name = (process / "cmdline").read_bytes()
            if name.startswith(b"ray::_Actor") and mark.encode() in (process / "environ").read_bytes():
                listed.append(int(process.name))
        except OSError:  # it has ended
            continue
    return listed


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own, of sockets and of what its next release does
def test_two_actors_make_what_one_process_makes_though_driver_and_actors_are_killed(
    assets, bucket, cluster, tmp_path
):
    rows = [(prompt, seed) for seed in range(10) for prompt in (COPIED, ORDINARY)]
    words = (write_rows(tmp_path / "prompts.parquet", rows), "--part", 1, *options(assets))
    out, log = f"{bucket}/run", tmp_path / "log"
    outputs = Outputs.open(out)

    def wait_for(results_there: int) -> None:
        end = time.monotonic() + PATIENCE
        while len(outputs.names("results")) < results_there:
            assert driver.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.02)

    driver = start(log, *words, "--out", out, "--ray", 2)
    wait_for(2)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    assert len(outputs.names("results")) < len(rows)

    driver = start(log, *words, "--out", out, "--ray", 2)
    wait_for(min(len(outputs.names("results")) + 2, len(rows) - 4))
    victim, *_ = actors(cluster)
    os.kill(victim, signal.SIGKILL)
    assert driver.wait(PATIENCE) == 0, log.read_text()

    assert [(row["row"], row["prompt"], row["seed"]) for row in results(out)] == [
        (i, *row) for i, row in enumerate(rows)
    ]
    assert run(*words, "--out", tmp_path / "alone") == 0
    assert pictures(out) == pictures(str(tmp_path / "alone"))
    outcomes = {row["outcome"] for row in results(out)}
    assert outcomes == {"clear", "steered"}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_what_a_guard_says_on_the_cluster_is_said_here(assets, cluster, tmp_path, capsys):
    words = (write_rows(tmp_path / "prompts.parquet", [(ORDINARY, 0)]), *options(assets))
    assert run(*words, "--out", tmp_path / "out", "--ray", 1, "--height", 13) == 2
    assert "13" in capsys.readouterr().err
