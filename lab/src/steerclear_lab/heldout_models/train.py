"""Train the held-out models side by side: `python -m steerclear_lab.heldout_models.train`.

They are finished within a given time. Every network is a process of its own. Autoencoder, CLIP and bystander
of each model come first, together; the denoisers wait for what they need of them and take the rest of the
time. Each learning rate follows the clock.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import torch
from PIL import Image

from steerclear_lab.heldout_models import pack
from steerclear_lab.heldout_models.sizes import MODELS
from steerclear_lab.heldout_models.stages import Run

STAGES = ("autoencoder", "clip", "bystander", "denoiser")


def run_stage(args: argparse.Namespace, name: str, stage: str) -> None:
    """Run one stage of one model in this process."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    torch.backends.cudnn.benchmark = stage in ("autoencoder", "denoiser")
    model = MODELS[name].smaller() if args.tiny else MODELS[name]
    work = args.work / name
    work.mkdir(parents=True, exist_ok=True)
    run = Run(
        name,
        model=model,
        pictures=pack.read(args.pack / name),
        work=work,
        out=args.out,
        start=args.start,
        seconds=args.seconds,
    )
    getattr(run, stage)()


def train_all(args: argparse.Namespace) -> int:
    """Start every stage of every model as a process, and report on them until all have ended.

    Returns:
        The number of stages that failed.
    """
    args.out.mkdir(parents=True, exist_ok=True)
    start = time.time()
    command = [sys.executable, "-m", __spec__.name if __spec__ else "steerclear_lab.heldout_models.train"]
    command += ["--pack", args.pack, "--out", args.out, "--work", args.work, "--seconds", str(args.seconds)]
    command += ["--start", str(start), *(["--tiny"] if args.tiny else [])]
    running, failed = {}, 0
    for name in args.model or MODELS:
        (args.work / name).mkdir(parents=True, exist_ok=True)
        for stage in STAGES:
            log = (args.work / name / f"{stage}.log").open("w")
            process = subprocess.Popen(
                [*map(str, command), "--model", name, "--stage", stage], stdout=log, stderr=subprocess.STDOUT
            )
            running[name, stage] = process
    reported = start
    while running:
        time.sleep(0.5)
        late = time.time() - start > args.seconds + args.grace
        for (name, stage), process in list(running.items()):
            if late and process.poll() is None:
                process.kill()
                process.wait()
            if process.poll() is None:
                continue
            del running[name, stage]
            text = (args.work / name / f"{stage}.log").read_text()
            print(f"[{time.time() - start:5.0f} s] {name} {stage} ended: {process.returncode}", flush=True)
            failed += process.returncode != 0
            if process.returncode:
                print(text[-1500:], flush=True)
            elif stage == "denoiser":
                lines = [line for line in text.splitlines() if line.startswith(f"{name}: ")]
                print("\n".join(lines), flush=True)
            if process.returncode and stage in ("autoencoder", "clip") and (name, "denoiser") in running:
                running[name, "denoiser"].kill()  # it waits for what will never come
        if time.time() - reported > args.report:
            reported = time.time()
            for name, stage in running:
                progress = args.work / name / f"{stage}.jsonl"
                line = progress.read_text().splitlines()[-1] if progress.exists() else "…"
                print(f"[{reported - start:5.0f} s] {name} {stage} {line}", flush=True)
    _join_sheets(
        [path for name in args.model or MODELS if (path := args.out / f"{name}.png").exists()], args.out
    )
    return failed


def _join_sheets(sheets: list[Path], out: Path) -> None:
    """Put the sheets of all models below each other in `out/heldout-models.png`, and remove them."""
    if not sheets:
        return
    images = [Image.open(path).convert("RGB") for path in sheets]
    whole = Image.new("RGB", (max(i.width for i in images), sum(i.height + 8 for i in images)), "white")
    top = 0
    for image in images:
        whole.paste(image, (0, top))
        top += image.height + 8
    whole.save(out / "heldout-models.png")
    for path in sheets:
        path.unlink()


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pack", type=Path, required=True, help="folder with one pack for each model")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--work", type=Path, default=Path("runs/heldout-models"), help="logs and parts")
    parser.add_argument("--seconds", type=float, default=385, help="that all may take together")
    parser.add_argument(
        "--grace", type=float, default=20, help="seconds after which stages are ended by force"
    )
    parser.add_argument("--report", type=float, default=45, help="seconds between two reports")
    parser.add_argument("--model", action="append", choices=MODELS, help="only this one; may be repeated")
    parser.add_argument("--stage", choices=STAGES, help="only this one, in this process")
    parser.add_argument("--start", type=float, default=0.0, help=argparse.SUPPRESS)
    parser.add_argument("--tiny", action="store_true", help="tiny networks, to try the whole way")
    args = parser.parse_args()
    if args.stage is None:
        return train_all(args)
    args.start = args.start or time.time()
    for name in args.model or MODELS:
        run_stage(args, name, args.stage)
    return 0


if __name__ == "__main__":
    sys.exit(main())
