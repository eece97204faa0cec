"""Servers of their own: lost devices, killed processes, a graceful end, limits, batches, and no keys."""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
from serve_doubles import COMMAND, COPIED, LOSE, ORDINARY, PATIENCE, RunningServer

STEPS = 900  # of a request that is still running when something happens to it


@pytest.fixture
def start(options, tmp_path) -> Iterator[Callable[..., RunningServer]]:
    """Start a server without keys, and wait until it is ready."""
    servers = []

    def started(*words: object) -> RunningServer:
        log = tmp_path / f"server-{len(servers)}.log"
        server = RunningServer(log, *options, "--insecure", "--most-steps", 999, *words)
        servers.append(server)
        return server.until_ready()

    yield started
    for server in servers:
        server.stop()


def generate(server, prompt=ORDINARY, *, steps=2, seed=0, **fields):
    body = {"prompt": prompt, "num_inference_steps": steps, "seed": seed, **fields}
    return httpx2.post(f"{server.url}/v1/images/generations", json=body, timeout=120)


def begun(server):
    return server.metric("steerclear_queue_wait_seconds_count")


@pytest.mark.slow
def test_a_server_without_keys_says_so_and_answers_this_machine_alone(start):
    server = start()
    assert "insecure: no key is asked for" in server.log.read_text()
    assert generate(server).status_code == 200
    for headers in ({"host": "example.com"}, {"origin": "https://example.com"}):
        answer = httpx2.get(f"{server.url}/v1/library", headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "not_local")
    foreign = httpx2.options(
        f"{server.url}/v1/library",
        headers={"origin": "https://example.com", "access-control-request-method": "GET"},
    )
    assert "access-control-allow-origin" not in foreign.headers
    assert server.stop() == 0
    assert ORDINARY not in server.log.read_text(), "prompts are not logged"


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--insecure", "--host", "0.0.0.0"], "--insecure serves without keys"),
        (["--insecure", "--cors", "https://example.com"], "--cors https://example.com names another site"),
        ([], "give --database"),
        pytest.param(["--insecure", "--model", "/nowhere"], "/nowhere", marks=pytest.mark.slow),
        (["--insecure", "--library", "/nowhere"], "/nowhere"),
        (["--insecure", "--workers", "0"], "--workers is 0"),
        pytest.param(["--insecure", "--filter", "nosuch"], "nosuch", marks=pytest.mark.slow),
    ],
)
def test_what_cannot_be_served_ends_with_one_line(words, error, options):
    given = words if "--model" in words or "--library" in words else [*map(str, options), *words]
    result = subprocess.run(
        [sys.executable, "-c", COMMAND, "--port", "0", *given],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ},
    )
    assert result.returncode == 2, result.stderr
    assert error in next(line for line in result.stderr.splitlines() if line.startswith("error: "))


def test_a_port_that_is_taken_is_said_before_anything_is_loaded(options):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        words = [*map(str, options), "--insecure", "--port", str(taken.getsockname()[1])]
        result = subprocess.run(
            [sys.executable, "-c", COMMAND, *words], capture_output=True, text=True, timeout=300
        )
    assert result.returncode == 2
    assert "choose another --port" in result.stderr


@pytest.mark.slow
def test_a_lost_device_takes_the_worker_out_and_its_process_is_started_again(start):
    server = start("--filter", "serve_doubles:LostDevice")
    (before,) = server.workers()
    expected = generate(server).json()["data"][0]["b64_json"]
    answer = generate(server, LOSE)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "worker_lost")
    assert int(answer.headers["retry-after"]) >= 1
    ready = httpx2.get(f"{server.url}/readyz")
    assert ready.status_code == 503
    assert ready.json()["workers"][0]["state"] in ("restarting", "starting")
    assert httpx2.get(f"{server.url}/healthz").status_code == 200
    # what comes meanwhile waits for the new process
    assert generate(server).json()["data"][0]["b64_json"] == expected
    (after,) = server.workers()
    assert after != before
    assert server.metric("steerclear_worker_restarts_total") == 1


@pytest.mark.slow
def test_a_killed_worker_is_started_again_and_its_request_named(start):
    server = start()
    (worker,) = server.workers()
    with ThreadPoolExecutor() as pool:
        long = pool.submit(generate, server, steps=STEPS)
        server.until(lambda: begun(server) == 1)
        os.kill(worker, signal.SIGKILL)
        assert long.result().json()["error"]["code"] == "worker_lost"
    assert generate(server).status_code == 200


@pytest.mark.slow
def test_a_killed_server_leaves_no_worker_behind(start):
    server = start()
    (worker,) = server.workers()
    server.process.kill()
    server.process.wait()
    deadline = time.monotonic() + PATIENCE
    while Path(f"/proc/{worker}").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not Path(f"/proc/{worker}").exists()


@pytest.mark.slow
def test_requests_that_were_taken_are_answered_before_the_server_ends(start):
    server = start()
    with ThreadPoolExecutor() as pool:
        running = pool.submit(generate, server, steps=300)
        server.until(lambda: begun(server) == 1)
        waiting = pool.submit(generate, server, steps=300)
        server.until(lambda: server.metric('steerclear_queue_depth{lane="pictures"}') == 1)
        server.process.send_signal(signal.SIGTERM)
        server.until(lambda: "stopping" in server.log.read_text())
        ready = httpx2.get(f"{server.url}/readyz")
        assert (ready.status_code, ready.json()["status"]) == (503, "draining")
        late = generate(server)
        assert (late.status_code, late.json()["error"]["code"]) == (503, "stopping")
        assert [running.result().status_code, waiting.result().status_code] == [200, 200]
    assert server.process.wait(60) == 0


@pytest.mark.slow
def test_what_does_not_end_in_time_is_named(start):
    server = start("--drain", 0.2)
    with ThreadPoolExecutor() as pool:
        running = pool.submit(generate, server, steps=STEPS, n=4)
        server.until(lambda: begun(server) == 1)
        assert server.stop() == 0
        answer = running.result()
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "stopping")


@pytest.mark.slow
def test_a_request_beyond_the_time_limit_is_ended_and_not_sent_again(start):
    server = start("--time-limit", 1)
    answer = generate(server, steps=STEPS, n=10)
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "time_limit")
    assert answer.headers["x-should-retry"] == "false"
    server.until(lambda: server.metric("steerclear_abandoned_requests_total") == 1)
    assert server.metric("steerclear_abandoned_evaluations_total") < 2 * STEPS * 10


@pytest.mark.slow
def test_requests_with_equal_settings_are_made_together_and_each_gets_its_own(start):
    server = start("--batch", 8)
    state = httpx2.get(f"{server.url}/readyz").json()["workers"][0]
    assert state["batch_identical"] in (True, False)
    prompts = [ORDINARY, "an owl", COPIED, "a bear"]
    alone = [generate(server, prompt, seed=i).json() for i, prompt in enumerate(prompts)]
    with ThreadPoolExecutor() as pool:
        first = pool.submit(generate, server, steps=STEPS)
        server.until(lambda: begun(server) == len(prompts) + 1)
        others = [pool.submit(generate, server, prompt, seed=i) for i, prompt in enumerate(prompts)]
        server.until(lambda: server.metric('steerclear_queue_depth{lane="pictures"}') == len(prompts))
        first.result()
        together = [other.result().json() for other in others]
    assert server.metric("steerclear_calls_total") == len(prompts) + 2, "four requests in one call"
    for first_pid, other in zip(alone, together, strict=True):
        assert first_pid["data"][0]["steerclear"]["seed"] == other["data"][0]["steerclear"]["seed"]
        if state["batch_identical"]:
            assert first_pid["data"][0]["b64_json"] == other["data"][0]["b64_json"]
        else:
            pictures = [base64.b64decode(a["data"][0]["b64_json"]) for a in (first_pid, other)]
            assert _farthest(*pictures) <= 3


@pytest.mark.slow
def test_one_of_a_batch_can_be_cancelled_and_the_others_are_made(start):
    server = start("--batch", 4)
    with ThreadPoolExecutor() as pool:
        first = pool.submit(generate, server, steps=STEPS)
        server.until(lambda: begun(server) == 1)
        kept = pool.submit(generate, server, steps=300)
        gone = pool.submit(
            httpx2.post,
            f"{server.url}/v1/images/generations",
            json={"prompt": ORDINARY, "num_inference_steps": 300, "seed": 5},
            headers={"x-request-id": "gone"},
            timeout=120,
        )
        server.until(lambda: server.metric('steerclear_queue_depth{lane="pictures"}') == 2)
        first.result()
        server.until(lambda: begun(server) == 3)
        assert httpx2.post(f"{server.url}/v1/requests/gone/cancel").status_code == 200
        assert gone.result().status_code == 409
        assert kept.result().status_code == 200


@pytest.mark.slow
def test_two_workers_work_side_by_side(start):
    server = start("--workers", 2)
    server.until(lambda: server.metric("steerclear_workers_ready") == 2)
    with ThreadPoolExecutor() as pool:
        pair = [pool.submit(generate, server, steps=300, seed=1) for _ in range(2)]
        server.until(lambda: begun(server) == 2)
        assert len({answer.result().json()["data"][0]["b64_json"] for answer in pair}) == 1


def _farthest(*files):
    import io

    import numpy as np
    from PIL import Image

    first_pid, other = (np.asarray(Image.open(io.BytesIO(file)), int) for file in files)
    return int(np.abs(first_pid - other).max())


@pytest.mark.slow
def test_a_small_picture_of_what_was_flagged_is_kept_where_asked_for(start, tmp_path, monkeypatch):
    monkeypatch.setenv("STEERCLEAR_RECORDS_KEY", base64.b64encode(bytes(range(32))).decode())
    database = tmp_path / "records.db"
    server = start("--database", database, "--keep-thumbnails", 7, "--keep-prompts", "hash")
    incident = generate(server, COPIED, steps=3).json()["data"][0]["steerclear"]["report_id"]
    kept = httpx2.get(f"{server.url}/v1/incidents/{incident}/thumbnail")
    assert kept.headers["content-type"] == "image/png"
    assert kept.content.startswith(b"\x89PNG")
    assert COPIED.encode() not in database.read_bytes()
