"""What steering costs at real size: time per step, peak memory, and the preview against the full decode.

    python -m steerclear_lab.bench.realsize --config sd14 --out docs/benchmarks

Published architectures with random weights (`architectures.py`); nothing is downloaded, and no text encoder
is needed. Every peak of memory is measured in its own process. The page gathers what has been measured so
far, one configuration a run.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from steerclear.nudge.objective import Objective, minimise
from steerclear.steering import Preview, Step, codec_for, steer, unwrapped_call
from steerclear_lab.bench import documents
from steerclear_lab.bench.architectures import ARCHITECTURES, STORED, build, call_arguments
from steerclear_lab.bench.command_line import benchmark_parser
from steerclear_lab.bench.documents import Row
from steerclear_lab.bench.realsize_page import page

MEMORY = ("plain", "frozen", "through")
STEPS_ON_CPU, STEPS_ON_GPU = 1, 20  # of a timed call
FROZEN_ITERATIONS = 10  # the trajectory strategy's own
ArgumentsFor = Callable[[int], dict[str, Any]]  # by number of steps


def main() -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--config", choices=ARCHITECTURES, required=True)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--stored", choices=STORED, help="dtype of the denoiser's weights; computing is float32 on a CPU"
    )
    parser.add_argument("--side", type=int, default=512, help="of the picture, in pixels")
    parser.add_argument("--pairs", type=int, default=5, help="of plain and steered runs, in turn")
    parser.add_argument("--measure", choices=("time", *MEMORY), help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.stored = args.stored or ("float32" if args.device == "cpu" else "bfloat16")
    if args.measure:
        print(json.dumps(_measured(args)))
        return
    row: Row = {
        "config": args.config,
        "published": ARCHITECTURES[args.config].published,
        "side": args.side,
        "stored": args.stored,
        "device": _device_name(args.device),
        "threads": torch.get_num_threads(),
        "command": _command(args),
    }
    for measure in ("time", *MEMORY):
        row[measure] = _in_own_process(args, measure)
        print(json.dumps({measure: row[measure]}), flush=True)
    kept = args.out / "realsize.json"
    rows = documents.read(kept)["rows"] if kept.is_file() else []
    rows = [r for r in rows if (r["config"], r["device"]) != (row["config"], row["device"])] + [row]
    documents.write(args.out, name="realsize", document={"rows": rows}, page=page(rows))


def _command(args: argparse.Namespace) -> str:
    """The command as the page shows it."""
    return (
        f"python -m steerclear_lab.bench.realsize --config {args.config} --stored {args.stored} "
        f"--side {args.side} --pairs {args.pairs} --out docs/benchmarks"
    )


def _in_own_process(args: argparse.Namespace, measure: str) -> Row:
    """The result of one measurement, made in a process of its own."""
    options = {
        "--config": args.config,
        "--device": args.device,
        "--stored": args.stored,
        "--side": args.side,
        "--pairs": args.pairs,
        "--measure": measure,
    }
    words = [str(word) for pair in options.items() for word in pair]
    command = [sys.executable, "-m", "steerclear_lab.bench.realsize", *words]
    # glibc otherwise moves the size above which freed memory is given back, and peaks depend on history
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "1048576"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise RuntimeError(f"measuring {measure} of {args.config} failed:\n{done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _measured(args: argparse.Namespace) -> Row:
    """What the hidden option --measure asks for."""
    architecture = ARCHITECTURES[args.config]
    pipe = build(architecture, args.device, args.stored)

    def arguments_for(steps: int) -> dict[str, Any]:
        return call_arguments(
            architecture, device=args.device, stored=args.stored, steps=steps, side=args.side
        )

    if args.measure == "time":
        return timings(pipe, arguments_for, pairs=args.pairs, device=args.device)
    return peak(pipe, arguments_for(2), kind=args.measure, device=args.device)


def timings(pipe: Any, arguments_for: ArgumentsFor, *, pairs: int, device: str) -> Row:
    """Seconds per step, plain and steered in turn; the hook's own seconds; decode and preview.

    Args:
        pipe: of `build`.
        arguments_for: keyword arguments of a call with so many steps.
        pairs: of plain and steered calls.
        device: "cpu" or "cuda".
    """
    steps = STEPS_ON_CPU if device == "cpu" else STEPS_ON_GPU

    def seconds_per_step(steered: bool) -> float:
        arguments = arguments_for(steps)
        _wait(device)
        began = time.perf_counter()
        with steer(pipe, _read_denoised) if steered else nullcontext():
            pipe(**arguments)
        _wait(device)
        return (time.perf_counter() - began) / steps

    seconds_per_step(False)  # the first call sets kernels up
    plain: list[float] = []
    steered: list[float] = []
    for pair in range(pairs):
        for with_hook in (False, True) if pair % 2 == 0 else (True, False):
            (steered if with_hook else plain).append(seconds_per_step(with_hook))
    hook = hook_seconds(pipe, arguments_for(steps), device)
    latents = pipe(**arguments_for(1)).images.float()
    codec = codec_for(pipe)
    preview = Preview(
        weight=torch.randn(3, latents.shape[1], 3, 3).to(latents) * 0.1,
        bias=torch.zeros(3).to(latents),
        rmse=0.0,
    )
    with torch.no_grad():
        decodes = [_timed(lambda: codec.decode(latents), device) for _ in range(3)]
        previews = [_timed(lambda: preview(latents), device) for _ in range(50)]
    objective = _objective(latents)
    descents = [
        _timed(lambda: minimise(objective, latents, iterations=FROZEN_ITERATIONS), device) for _ in range(5)
    ]
    return {
        "plain_s": plain,
        "watched_s": steered,
        "paired_ratio": statistics.median(w / p for p, w in zip(plain, steered, strict=True)),
        "own_s": statistics.median(hook),
        "own_ratio": 1 + statistics.median(hook) / statistics.median(plain),
        "frozen_s": statistics.median(descents),
        "decode_s": min(decodes),
        "preview_s": statistics.median(previews),
    }


@dataclass
class TimedStep:
    """A scheduler's step that keeps how long each call took, the device waited for on both sides.

    Attributes:
        step: the original method.
        device: "cpu" or "cuda".
        seconds: of each call.
    """

    step: Callable[..., Any]
    device: str
    seconds: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.__signature__ = inspect.signature(self.step)  # pipelines look at the arguments that a step takes

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        _wait(self.device)
        began = time.perf_counter()
        output = self.step(*args, **kwargs)
        _wait(self.device)
        self.seconds.append(time.perf_counter() - began)
        return output


def hook_seconds(pipe: Any, arguments: dict[str, Any], device: str) -> list[float]:
    """The hook's own seconds at each step: those of the wrapped scheduler step, less the scheduler's own.

    Args:
        pipe: of `build`.
        arguments: of the call that is measured.
        device: "cpu" or "cuda".
    """
    instance = vars(pipe.scheduler)
    inner = TimedStep(pipe.scheduler.step, device)
    instance["step"] = inner
    try:
        with steer(pipe, _read_denoised):
            wrapped = pipe.scheduler.step
            outer = TimedStep(wrapped, device)
            instance["step"] = outer
            pipe(**arguments)
            instance["step"] = wrapped
    finally:
        del instance["step"]
    return [whole - inside for whole, inside in zip(outer.seconds, inner.seconds, strict=True)]


def peak(pipe: Any, arguments: dict[str, Any], *, kind: str, device: str) -> Row:
    """Peak bytes of two steps. The picture is not decoded: the decoder's own peak would hide what the steps
    need.

    Args:
        pipe: of `build`.
        arguments: of the call.
        kind: "plain"; "frozen", the trajectory nudge; or "through", the gradient through the denoiser with
            checkpointing.
        device: "cpu" or "cuda".
    """
    loaded = _peak_bytes(device)
    distances: list[float] = []

    def frozen(step: Step) -> Tensor:
        moved = minimise(_objective(step.denoised), step.denoised, iterations=FROZEN_ITERATIONS)
        distances.append(float((moved - step.denoised).norm()))
        return moved

    def through(step: Step) -> Tensor:
        origin = step.denoised.detach()
        value = _objective(origin)(step.denoised, origin)
        (gradient,) = torch.autograd.grad(value, step.sample)
        moved = origin - 0.05 * origin.norm() * gradient / gradient.norm().clamp(min=1e-12)
        distances.append(float((moved - origin).norm()))
        return moved.detach()  # type: ignore[no-any-return]

    if kind == "plain":
        pipe(**arguments)
    elif kind == "frozen":
        with steer(pipe, frozen):
            pipe(**arguments)
    else:
        denoiser = getattr(pipe, "unet", None) or pipe.transformer
        denoiser.enable_gradient_checkpointing()
        start = torch.randn(_latent_shape(pipe, arguments), generator=torch.Generator().manual_seed(1))
        start = start.to(arguments["prompt_embeds"]).requires_grad_()
        with steer(pipe, through, lambda step, prev: prev.detach().requires_grad_()):
            unwrapped_call(pipe)(**arguments, latents=start)
    highest = _peak_bytes(device)
    if kind != "plain" and not all(distance > 0 for distance in distances):
        raise RuntimeError("nothing was pushed, so nothing was measured")
    return {"loaded_bytes": loaded, "peak_bytes": highest, "steps": len(distances)}


def _objective(like: Tensor) -> Objective:
    return Objective(None, torch.randn(like.shape, generator=torch.Generator().manual_seed(2)).to(like))


def _read_denoised(step: Step) -> None:
    step.denoised  # noqa: B018 - what a guard reads at every step


def _latent_shape(pipe: Any, arguments: dict[str, Any]) -> tuple[int, ...]:
    side = arguments["height"] // pipe.vae_scale_factor
    return 1, pipe.vae.config.latent_channels, side, side


def _timed(act: Callable[[], Any], device: str) -> float:
    _wait(device)
    began = time.perf_counter()
    act()
    _wait(device)
    return time.perf_counter() - began


def _wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def _peak_bytes(device: str) -> int:
    if device != "cpu":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _device_name(device: str) -> str:
    return "CPU" if device == "cpu" else torch.cuda.get_device_name()


if __name__ == "__main__":
    main()
