"""Guarded requests at published sizes: what a clear one costs, and whether every strategy runs.

    python -m steerclear_lab.bench.guarded_size --config sd14 --stored bfloat16 --side 512 --steps 20

The denoiser and the autoencoder have their published sizes and random weights, so pictures show nothing: the
filter is told what to say. A clear request is timed against the plain pipeline's, in turn. Then each strategy
answers one flagged request. The page gathers what has been measured so far, one configuration a run. With
`--pairs 0` only the strategies run, and with `--strategies` and no name only the clear requests; what an
earlier run measured of the other is kept.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import steerclear
from steerclear.nudge.condition import ConditionNudge, Despecified, Resample, Rewrite
from steerclear.nudge.final_latent import FinalLatent
from steerclear.nudge.ladder import Ladder
from steerclear.nudge.magnitude import Magnitude
from steerclear.nudge.noise import Noise
from steerclear.nudge.shield import Shield
from steerclear.nudge.trajectory import Trajectory
from steerclear.types import Detection
from steerclear_lab.bench import documents
from steerclear_lab.bench.architectures import ARCHITECTURES, STORED, prompted
from steerclear_lab.bench.command_line import benchmark_parser
from steerclear_lab.bench.documents import Row
from steerclear_lab.bench.guarded_size_page import page

PROMPT, PREFERRED = "a photograph of a red fox in the snow", "a bowl of fruit on a table"
MODES = ("plain", "tiling", "model-offload", "sequential-offload", "compile")
STRATEGIES: dict[str, Any] = {
    "rewrite": Rewrite(),
    "condition": ConditionNudge(),
    "despecified": Despecified(),
    "resample": Resample(),
    "trajectory+condition": Trajectory(),
    "noise+condition": Noise(),
    "final-latent+condition": FinalLatent(),
    "shield": Shield.alone(),
    "magnitude": Magnitude(iterations=2),
    "trajectory-through": Trajectory(name="trajectory-through", nudge_condition=False, through=True),
}


class ScriptedFilter:
    """Says what it is told of the next pictures, and then clear; it looks at none.

    Args:
        verdicts: of the next pictures, flagged or not.
    """

    name, threshold, cost = "scripted", 0.5, "network"

    def __init__(self, *verdicts: bool) -> None:
        self._verdicts = iter(verdicts)

    def check(self, images: Tensor) -> list[Detection]:
        """One detection per image (B, 3, H, W)."""
        return [
            Detection(self.name, flagged=flag, score=float(flag), threshold=self.threshold)
            for flag in (next(self._verdicts, False) for _ in images)
        ]


def main() -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--config", choices=ARCHITECTURES, required=True)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--stored", choices=STORED, default="bfloat16")
    parser.add_argument("--side", type=int, default=512, help="of the picture, in pixels")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--pairs", type=int, default=7, help="of plain and guarded clear requests, in turn")
    parser.add_argument("--mode", choices=MODES, default="plain", help="how the pipeline is run")
    parser.add_argument("--strategies", nargs="*", choices=STRATEGIES, default=list(STRATEGIES))
    parser.add_argument("--note", default="", help="what else to know of this run, for the page")
    args = parser.parse_args()
    row = measured(args)
    kept = args.out / "guarded-size.json"
    rows = documents.read(kept)["rows"] if kept.is_file() else []
    same = ("config", "stored", "mode", "side", "steps", "device")
    before = [r for r in rows if all(r[key] == row[key] for key in same)]
    rows = [r for r in rows if r not in before] + [{**(before[0] if before else {}), **row}]
    documents.write(args.out, name="guarded-size", document={"rows": rows}, page=page(rows))


def measured(args: argparse.Namespace) -> Row:
    """All figures of one configuration; each is printed as soon as it is known."""
    pipe = prompted(ARCHITECTURES[args.config], args.device, args.stored)
    row: Row = {
        "config": args.config,
        "published": ARCHITECTURES[args.config].published,
        "stored": args.stored,
        "mode": args.mode,
        "side": args.side,
        "steps": args.steps,
        "device": "CPU" if args.device == "cpu" else torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "command": _command(args),
        "note": args.note,
    }
    prepare(pipe, args.mode)
    call = {"num_inference_steps": args.steps, "height": args.side, "width": args.side}
    if args.pairs:
        row["clear"] = clear_requests(pipe, call, pairs=args.pairs, device=args.device)
        print(json.dumps({"config": args.config, "stored": args.stored, "clear": row["clear"]}), flush=True)
    if args.strategies:
        row["strategies"] = {}
    for name in args.strategies:
        row["strategies"][name] = flagged_request(pipe, call, name, device=args.device)
        print(json.dumps({name: row["strategies"][name]}), flush=True)
    return row


def prepare(pipe: Any, mode: str) -> None:
    """Run the pipeline as a user may: tiled, offloaded or compiled.

    Args:
        pipe: of `architectures.prompted`.
        mode: one of MODES.
    """
    match mode:
        case "tiling":
            pipe.vae.enable_tiling()
        case "model-offload":
            pipe.enable_model_cpu_offload()
        case "sequential-offload":
            pipe.enable_sequential_cpu_offload()
        case "compile":
            name = "unet" if getattr(pipe, "unet", None) is not None else "transformer"
            setattr(pipe, name, torch.compile(getattr(pipe, name)))


def clear_requests(pipe: Any, call: dict[str, Any], *, pairs: int, device: str) -> Row:
    """Seconds of plain and of guarded clear requests, in turn, and whether their pictures agree.

    Args:
        pipe: of `architectures.prompted`.
        call: arguments of the pipeline's call.
        pairs: how often each is asked.
        device: "cpu" or "cuda".
    """
    guard = steerclear.Guard(pipe, [ScriptedFilter()])

    def ask(asked: Callable[..., Any]) -> tuple[float, Image.Image]:
        _wait(device)
        began = time.perf_counter()
        image = asked(PROMPT, **call, generator=torch.Generator().manual_seed(0)).images[0]
        _wait(device)
        return time.perf_counter() - began, image

    first, pictures = ask(pipe), {pipe: list[Image.Image](), guard: list[Image.Image]()}
    ask(guard)
    seconds: dict[Any, list[float]] = {pipe: [], guard: []}
    for pair in range(pairs):
        for asked in (pipe, guard) if pair % 2 == 0 else (guard, pipe):
            took, picture = ask(asked)
            seconds[asked].append(took)
            pictures[asked].append(picture)
    return {
        "plain_s": seconds[pipe],
        "guarded_s": seconds[guard],
        "ratio": statistics.median(g / p for p, g in zip(seconds[pipe], seconds[guard], strict=True)),
        "first_call_s": first[0],
        "plain_differs": _largest_difference(pictures[pipe]),
        "guarded_differs": _largest_difference([pictures[pipe][0], *pictures[guard]]),
    }


def _largest_difference(pictures: Sequence[Image.Image]) -> int:
    """Largest difference of a pixel between the first picture and the others, of 255."""
    arrays = [np.asarray(picture, dtype=np.int16) for picture in pictures]
    return max((int(abs(array - arrays[0]).max()) for array in arrays[1:]), default=0)


def flagged_request(pipe: Any, call: dict[str, Any], name: str, *, device: str) -> Row:
    """What one strategy makes of a request whose first picture is flagged.

    Args:
        pipe: of `architectures.prompted`.
        call: arguments of the pipeline's call.
        name: of the strategy, a key of STRATEGIES.
        device: "cpu" or "cuda".
    """
    ladder = Ladder((STRATEGIES[name],))
    guard = steerclear.Guard(pipe, [ScriptedFilter(True)], ladder=ladder, preferred=[PREFERRED])
    with _peak(device) as peak:
        out = guard(PROMPT, **call, generator=torch.Generator().manual_seed(0))
    attempt = out.reports[0].attempts[0]
    return {
        "outcome": str(out.reports[0].outcome),
        "stopped": attempt.stopped,
        "seconds": attempt.seconds,
        "nfe": attempt.nfe,
        "peak_gib": peak[0] if peak else None,
    }


@contextmanager
def _peak(device: str) -> Iterator[list[float]]:
    """The peak of a GPU's memory in GiB, in a list once the block has ended; nothing of a CPU."""
    peak: list[float] = []
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    yield peak
    if device == "cuda":
        peak.append(round(torch.cuda.max_memory_allocated() / 1024**3, 2))


def _command(args: argparse.Namespace) -> str:
    """The command as the page shows it."""
    mode = "" if args.mode == "plain" else f" --mode {args.mode}"
    return (
        f"python -m steerclear_lab.bench.guarded_size --config {args.config} --stored {args.stored} "
        f"--side {args.side} --steps {args.steps} --pairs {args.pairs}{mode} --out docs/benchmarks"
    )


def _wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
