"""What steering costs at real size: time per step, peak memory, and the preview against the full decode.

    python -m steerclear_lab.bench.realsize --config sd14 --out docs/benchmarks

Published architectures with random weights (`architectures.py`); nothing is downloaded, and no text encoder is needed. Every
peak of memory is measured in its own process. The page gathers what has been measured so far, one configuration a run.
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
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from steerclear.nudge.objective import Objective, minimise
from steerclear.steering import Preview, Step, codec_for, steer, unwrapped_call
from steerclear_lab.bench.architectures import ARCHITECTURES, STORED, build, call
from steerclear_lab.bench.realsize_page import page

MEMORY = ("plain", "frozen", "through")
STEPS_ON_CPU, STEPS_ON_GPU = 1, 20  # of a timed call
FROZEN_ITERATIONS = 10  # the trajectory strategy's own


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", choices=ARCHITECTURES, required=True)
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--stored", choices=STORED, help="dtype of the denoiser's weights; computing is float32 on a CPU"
    )
    parser.add_argument("--side", type=int, default=512, help="of the picture, in pixels")
    parser.add_argument("--pairs", type=int, default=5, help="of plain and watched runs, interleaved")
    parser.add_argument("--measure", choices=("time", *MEMORY), help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.stored = args.stored or ("float32" if args.device == "cpu" else "bfloat16")
    if args.measure:
        print(json.dumps(_measured(args)))
        return
    row: dict[str, Any] = {
        "config": args.config, "published": ARCHITECTURES[args.config].published, "side": args.side, "stored": args.stored,
        "device": _device_name(args.device), "threads": torch.get_num_threads(),
        "command": _command(args),
    }  # fmt: skip
    for measure in ("time", *MEMORY):
        row[measure] = _in_own_process(args, measure)
        print(json.dumps({measure: row[measure]}), flush=True)
    args.out.mkdir(parents=True, exist_ok=True)
    kept = args.out / "realsize.json"
    rows = json.loads(kept.read_text())["rows"] if kept.is_file() else []
    rows = [r for r in rows if (r["config"], r["device"]) != (row["config"], row["device"])] + [row]
    kept.write_text(json.dumps({"rows": rows}, indent=1) + "\n")
    (args.out / "realsize.md").write_text(page(rows))


def _command(args: argparse.Namespace) -> str:
    return (
        f"python -m steerclear_lab.bench.realsize --config {args.config} --stored {args.stored} --side {args.side} "
        f"--pairs {args.pairs} --out docs/benchmarks"
    )


def _in_own_process(args: argparse.Namespace, measure: str) -> dict[str, Any]:
    command = [
        sys.executable, "-m", "steerclear_lab.bench.realsize", "--config", args.config, "--device", args.device,
        "--stored", args.stored, "--side", str(args.side), "--pairs", str(args.pairs), "--measure", measure,
    ]  # fmt: skip
    # glibc otherwise moves the bound above which freed memory goes back to the system, and peaks depend on history
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "1048576"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise RuntimeError(f"measuring {measure} of {args.config} failed:\n{done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _measured(args: argparse.Namespace) -> dict[str, Any]:
    architecture = ARCHITECTURES[args.config]
    pipe = build(architecture, args.device, args.stored)

    def ask(steps: int) -> dict[str, Any]:
        return call(architecture, pipe, args.device, args.stored, steps, args.side)

    if args.measure == "time":
        return timings(pipe, ask, args.pairs, args.device)
    return peak(pipe, ask(2), args.measure, args.device)


def timings(pipe: Any, ask: Callable[[int], dict[str, Any]], pairs: int, device: str) -> dict[str, Any]:
    """Seconds per step plain and watched, interleaved; the hook's own seconds; decode and preview."""
    own: list[float] = []
    scheduler = pipe.scheduler
    steps = STEPS_ON_CPU if device == "cpu" else STEPS_ON_GPU

    def run(watched: bool) -> float:
        """Seconds a step of one call."""
        kwargs = ask(steps)
        _wait(device)
        began = time.perf_counter()
        with steer(pipe, _watch) if watched else nullcontext():
            pipe(**kwargs)
        _wait(device)
        return (time.perf_counter() - began) / steps

    def look_at_the_hook() -> None:
        """The hook's own seconds at each step, the device waited for on both sides of it."""
        original, inside = scheduler.step, 0.0

        def innermost(*a: Any, **k: Any) -> Any:
            nonlocal inside
            _wait(device)
            start = time.perf_counter()
            out = original(*a, **k)
            _wait(device)
            inside = time.perf_counter() - start
            return out

        innermost.__signature__ = inspect.signature(original)  # type: ignore[attr-defined]
        vars(scheduler)["step"] = innermost
        try:
            with steer(pipe, _watch):
                steered = scheduler.step

                def outermost(*a: Any, **k: Any) -> Any:
                    _wait(device)
                    start = time.perf_counter()
                    out = steered(*a, **k)
                    _wait(device)
                    own.append(time.perf_counter() - start - inside)
                    return out

                outermost.__signature__ = innermost.__signature__  # type: ignore[attr-defined]
                vars(scheduler)["step"] = outermost
                pipe(**ask(steps))
                vars(scheduler)["step"] = steered
        finally:
            del vars(scheduler)["step"]

    run(False)  # the first call sets kernels up
    plain: list[float] = []
    watched: list[float] = []
    for pair in range(pairs):
        for which in (False, True) if pair % 2 == 0 else (True, False):
            (watched if which else plain).append(run(which))
    look_at_the_hook()
    latents = pipe(**ask(1)).images.float()
    codec = codec_for(pipe)
    preview = Preview(
        weight=torch.randn(3, latents.shape[1], 3, 3).to(latents) * 0.1,
        bias=torch.zeros(3).to(latents),
        rmse=0.0,
    )
    with torch.no_grad():
        decode = [_timed(lambda: codec.decode(latents), device) for _ in range(3)]
        look = [_timed(lambda: preview(latents), device) for _ in range(50)]
    moving = _objective(latents)
    return {
        "plain_s": plain, "watched_s": watched,
        "paired_ratio": statistics.median(w / p for p, w in zip(plain, watched, strict=True)),
        "own_s": statistics.median(own), "own_ratio": 1 + statistics.median(own) / statistics.median(plain),
        "frozen_s": statistics.median(
            _timed(lambda: minimise(moving, latents, iterations=FROZEN_ITERATIONS), device) for _ in range(5)
        ),
        "decode_s": min(decode), "preview_s": statistics.median(look),
    }  # fmt: skip


def peak(pipe: Any, kwargs: dict[str, Any], which: str, device: str) -> dict[str, Any]:
    """Peak bytes of two steps: plain, frozen trajectory nudge, or gradient through the denoiser with checkpointing.

    The picture is not decoded: the decoder's own peak would hide what the steps need.
    """
    loaded = _peak_bytes(device)
    pushed: list[float] = []

    def frozen(step: Step) -> Tensor:
        moved = minimise(_objective(step.denoised), step.denoised, iterations=FROZEN_ITERATIONS)
        pushed.append(float((moved - step.denoised).norm()))
        return moved

    def through(step: Step) -> Tensor:
        origin = step.denoised.detach()
        value = _objective(origin)(step.denoised, origin)
        (gradient,) = torch.autograd.grad(value, step.sample)
        moved = origin - 0.05 * origin.norm() * gradient / gradient.norm().clamp(min=1e-12)
        pushed.append(float((moved - origin).norm()))
        return moved.detach()  # type: ignore[no-any-return]

    if which == "plain":
        pipe(**kwargs)
    elif which == "frozen":
        with steer(pipe, frozen):
            pipe(**kwargs)
    else:
        denoiser = getattr(pipe, "unet", None) or pipe.transformer
        denoiser.enable_gradient_checkpointing()
        start = torch.randn(_latent_shape(pipe, kwargs), generator=torch.Generator().manual_seed(1))
        start = start.to(kwargs["prompt_embeds"]).requires_grad_()
        with steer(pipe, through, lambda step, prev: prev.detach().requires_grad_()):
            unwrapped_call(pipe)(**kwargs, latents=start)
    highest = _peak_bytes(device)
    if which != "plain" and not all(size > 0 for size in pushed):
        raise RuntimeError("nothing was pushed, so nothing was measured")
    return {"loaded_bytes": loaded, "peak_bytes": highest, "steps": len(pushed)}


def _objective(like: Tensor) -> Objective:
    return Objective(None, torch.randn(like.shape, generator=torch.Generator().manual_seed(2)).to(like))


def _watch(step: Step) -> None:
    step.denoised  # noqa: B018 - what a guard reads at every step


def _latent_shape(pipe: Any, kwargs: dict[str, Any]) -> tuple[int, ...]:
    side = kwargs["height"] // pipe.vae_scale_factor
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
