"""What the servers under test hold: a tiny model, and a library that protects one of its pictures."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx2
import torch

from steerclear.errors import DeviceLostError
from steerclear.testing import tiny_pipeline
from steerclear.types import Detection

ROOT = Path(__file__).parents[2]
COPIED, ORDINARY = "the acme fox mascot", "a bear in the snow"
ITEM = "acme-fox"  # its picture is the first that COPIED gives with seed 0
STEPS, GUIDANCE = 3, 4.0
# only a picture that is the same, pixel for pixel, is flagged: all else of a random model resembles it
THRESHOLDS = {"nearest": 0.999999, "pixel": 0.9999, "tiled": 0.9999, "copy": 1000.0}
LOSE = "lose the device"  # a prompt
FLAGGED_SLOWLY = "what is flagged while its client goes away"  # a prompt
# a command line of its own, so that the tests need no installed entry point
COMMAND = "import typer; from steerclear.cli.serve import serve; typer.run(serve)"
PATIENCE = 120.0  # seconds that a server may take to start or to end on a busy machine


def prepare(folder: Path) -> None:
    """Write `model` and the calibrated `library` that protects one of its pictures."""
    from steerclear.encoders import load_encoder
    from steerclear.library import Library, add

    tiny_pipeline().save_pretrained(folder / "model")
    (folder / "art").mkdir()
    plain(folder / "model", COPIED, 0).save(folder / "art" / f"{ITEM}.png")
    encoder = load_encoder("descriptor")
    library = Library.create(folder / "library", [encoder])
    add(library, [folder / "art" / f"{ITEM}.png"], [encoder], owner="Acme", note="the mascot")
    library.write_note("calibration", {"thresholds": THRESHOLDS})


def plain(model: Path, prompt: str, seed: int) -> Any:
    """What the plain pipeline gives with the server's settings."""
    from steerclear.pipelines import load_pipeline

    pipe = load_pipeline(model)
    pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(seed)
    return pipe(prompt, num_inference_steps=STEPS, guidance_scale=GUIDANCE, generator=generator).images[0]


class LostDevice:
    """A filter that meets a lost device where the prompt says so, as any code on a GPU might."""

    name, threshold = "lost-device", 1.0

    def check_prompts(self, prompts: Sequence[str]) -> list[Detection]:
        if LOSE in prompts:
            raise DeviceLostError("the device failed and no longer answers; nothing is handed out")
        return [Detection(self.name, flagged=False, score=0.0, threshold=self.threshold) for _ in prompts]


class Broken:
    """A filter that fails on prompts which ask it to, and takes its time to flag one."""

    name, threshold = "broken", 1.0

    def check_prompts(self, prompts: Sequence[str]) -> list[Detection]:
        if "break the filter" in prompts:
            raise RuntimeError("out of order")
        if FLAGGED_SLOWLY in prompts:
            time.sleep(1)
            return [Detection(self.name, flagged=True, score=2.0, threshold=self.threshold) for _ in prompts]
        return [Detection(self.name, flagged=False, score=0.0, threshold=self.threshold) for _ in prompts]


class RunningServer:
    """`steerclear serve` in a process of its own, on a free port of loopback.

    Attributes:
        url: where it listens.
        log: its standard error.
    """

    def __init__(self, log: Path, *words: object) -> None:
        self.log = log
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join((str(ROOT / "src"), str(Path(__file__).parent))),
        }
        with log.open("wb") as stream:
            self.process = subprocess.Popen(
                [sys.executable, "-c", COMMAND, "--port", "0", *map(str, words)],
                stderr=stream,
                stdout=subprocess.DEVNULL,
                env=environment,
            )
        self.url = self._address()

    def _address(self) -> str:
        return str(self.until(lambda: self._listening()))

    def _listening(self) -> str | None:
        lines = self.log.read_text().splitlines()
        return next((line.split()[2].rstrip(";") for line in lines if line.startswith("listening on")), None)

    def until(self, answer: Any) -> Any:
        """Wait for an answer that is true."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if seen := answer():
                return seen
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.02)
        raise AssertionError(f"nothing happened:\n{self.log.read_text()}")

    def until_ready(self) -> RunningServer:
        """Wait until it can take requests."""
        self.until(lambda: httpx2.get(f"{self.url}/readyz", verify=False).status_code == 200)
        return self

    def workers(self) -> list[int]:
        """Ids of the processes that it has started and that hold a model."""
        threads = Path(f"/proc/{self.process.pid}/task").iterdir()
        children = [pid for thread in threads for pid in (thread / "children").read_text().split()]
        return [int(pid) for pid in children if "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text()]

    def metric(self, line: str) -> float:
        """The value of a figure, as `/metrics` says it; 0 for one that was never counted."""
        for row in httpx2.get(f"{self.url}/metrics", verify=False).text.splitlines():
            name, _, value = row.rpartition(" ")
            if name == line:
                return float(value)
        return 0.0

    def stop(self) -> int:
        """SIGTERM, and its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(PATIENCE)
        finally:
            self.process.kill()
