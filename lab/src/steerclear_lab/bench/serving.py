"""What does the server cost? Latency beside the bare guard, and requests made together beside one by one.

    python -m steerclear_lab.bench.serving --requests 40 --out docs/benchmarks

The embedded model and library, on the CPU. Overhead: the same requests, each alone, once by a client of the
server and once by a guard in this process, in turn, so that both see the same load of the machine. The
server's own share of a request is what the client waited, less what its answer says that the guard took.
Batches: 16 requests at once, to a server that makes each alone and to one that makes them together.
"""

from __future__ import annotations

import base64
import io
import multiprocessing
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import torch
from PIL import Image

from steerclear import Guard, embedded
from steerclear.steering.seeds import generators
from steerclear_lab.bench import documents
from steerclear_lab.bench.command_line import benchmark_parser, limit_threads
from steerclear_lab.bench.documents import Row
from steerclear_lab.pages import render, table

STEPS, GUIDANCE = 10, 4.0
AT_ONCE = 16
WARM_UP = 3  # requests before anything is counted
STARTS_WITHIN = 600  # seconds


@contextmanager
def server(*words: str) -> Iterator[str]:
    """A server of the embedded model in a process of its own; its address."""
    command = [sys.executable, "-c", "import sys; from steerclear.cli import main; sys.exit(main())", "serve"]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("wb") as stream:
            options = ["--insecure", "--port", "0", "--guidance", str(GUIDANCE), *words]
            process = subprocess.Popen([*command, *options], stderr=stream)
        try:
            yield _address(process, log)
        finally:
            process.terminate()
            process.wait()


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    """Where a server listens, once it is ready."""
    end = time.monotonic() + STARTS_WITHIN
    while time.monotonic() < end and process.poll() is None:
        lines = [line for line in log.read_text().splitlines() if line.startswith("listening on")]
        if lines:
            address = lines[0].split()[2].rstrip(";")
            if httpx2.get(f"{address}/readyz").status_code == 200:
                return address
        time.sleep(0.1)
    raise RuntimeError(f"the server did not start:\n{log.read_text()}")


def _ask(client: httpx2.Client, prompt: str, seed: int) -> tuple[float, float, Row]:
    """Milliseconds until the answer, those of them that the guard's call took, and the picture."""
    body = {"prompt": prompt, "seed": seed, "num_inference_steps": STEPS}
    began = time.perf_counter()
    answer = client.post("/v1/images/generations", json=body)
    taken = 1000 * (time.perf_counter() - began)
    answer.raise_for_status()
    picture: Row = answer.json()["data"][0]
    guard = re.search(r"guard;dur=([0-9.]+)", answer.headers["server-timing"])
    assert guard is not None
    return taken, float(guard[1]), picture


def overhead(count: int) -> Row:
    """Latency of requests by the server and by a guard, in turn."""
    prompts = [prompt for prompt, _ in embedded.read_prompts("ordinary")]
    guard = Guard.default()
    guard.pipe.set_progress_bar_config(disable=True)
    by_server, by_guard, own_share = list[float](), list[float](), list[float]()
    identical = 0
    with server() as address, httpx2.Client(base_url=address, timeout=600) as client:
        for i in range(-WARM_UP, count):
            prompt, seed = prompts[i % len(prompts)], i + WARM_UP
            taken, call, picture = _ask(client, prompt, seed)
            began = time.perf_counter()
            output = guard(
                prompt,
                generator=generators([seed])[0],
                num_inference_steps=STEPS,
                guidance_scale=GUIDANCE,
            )
            bare = 1000 * (time.perf_counter() - began)
            if i < 0:
                continue
            by_server.append(taken)
            by_guard.append(bare)
            own_share.append(taken - call)
            image = output.images[0]
            identical += image is not None and bool((_pixels(picture) == np.asarray(image)).all())
    return {
        "requests": count,
        "identical": identical,
        "server_ms": _quantiles(by_server),
        "guard_ms": _quantiles(by_guard),
        "own_ms": _quantiles(own_share),
    }


def batches() -> Row:
    """Requests at once, each alone and together: seconds in all, and how far their pictures are apart."""
    prompts = [prompt for prompt, _ in embedded.read_prompts("ordinary")][:AT_ONCE]
    seconds, pictures = dict[str, float](), dict[str, list[Any]]()
    for name, batch in (("alone", 1), ("together", AT_ONCE)):
        with server("--batch", str(batch)) as address, httpx2.Client(base_url=address, timeout=600) as client:
            for seed in range(WARM_UP):
                _ask(client, prompts[0], seed)
            with ThreadPoolExecutor(AT_ONCE) as pool:
                began = time.perf_counter()
                asked = [pool.submit(_ask, client, p, seed) for seed, p in enumerate(prompts)]
                answers = [request.result()[-1] for request in asked]
                seconds[name] = round(time.perf_counter() - began, 2)
            pictures[name] = [_pixels(picture) for picture in answers]
    apart = [int(np.abs(a - b).max()) for a, b in zip(*pictures.values(), strict=True)]
    return {"requests": AT_ONCE, "seconds": seconds, "identical": apart.count(0), "most_apart": max(apart)}


def _pixels(picture: Row) -> Any:
    opened = Image.open(io.BytesIO(base64.b64decode(picture["b64_json"])))
    return np.asarray(opened.convert("RGB")).astype(np.int16)


def _quantiles(values: Sequence[float]) -> dict[str, float]:
    return {
        name: round(float(np.quantile(values, share)), 2) for name, share in (("p50", 0.5), ("p95", 0.95))
    }


def page(document: Row) -> str:
    """The Markdown page of a document."""
    cost, together = document["overhead"], document["batches"]
    rows = [
        [name, *(f"{cost[key][quantile]:.1f}" for quantile in ("p50", "p95"))]
        for name, key in (
            ("the client's wait", "server_ms"),
            ("the bare guard", "guard_ms"),
            ("the server's own share", "own_ms"),
        )
    ]
    return render(
        "serving.md.j2",
        {
            **{name: document[name] for name in ("command", "machine", "note")},
            "steps": STEPS,
            "overhead": cost,
            "figures": table(["milliseconds a request", "p50", "p95"], rows),
            "batches": together,
            "gain": together["seconds"]["alone"] / together["seconds"]["together"],
        },
    )


def main() -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--requests", type=int, default=40)
    parser.add_argument("--note", default="", help="about the machine, for the page")
    args = parser.parse_args()
    limit_threads()
    document = {
        "command": f"python -m steerclear_lab.bench.serving --requests {args.requests}",
        "machine": f"{multiprocessing.cpu_count()} cores ({platform.machine()}), torch {torch.__version__}, "
        f"{os.environ.get('OMP_NUM_THREADS', '2')} threads",
        "note": args.note,
        "overhead": overhead(args.requests),
        "batches": batches(),
    }
    documents.write(args.out, name="serving", document=document, page=page(document))


if __name__ == "__main__":
    main()
