"""Train the held-out models side by side: `python -m steerclear_lab.heldout_models.train`.

They are finished within a given time. Every network is a process of its own. Autoencoder, CLIP and bystander
of each model come first, together; the denoisers wait for what they need of them and take the rest of the
time. Each learning rate follows the clock.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from PIL import Image

from steerclear_lab.emoji import autoencoder, bystander, clip, denoiser
from steerclear_lab.emoji.clip import ClipSize
from steerclear_lab.emoji.dataset import Picture
from steerclear_lab.emoji.denoiser import DenoiserSize
from steerclear_lab.emoji.denoiser_training import Phase
from steerclear_lab.emoji.training import Schedule, device
from steerclear_lab.heldout_models import clipart, pack, scenes

STAGES = ("autoencoder", "clip", "bystander", "denoiser")
PARTS_SHARE, DENOISER_SHARE = 0.22, 0.9  # of the time: when the parts and the denoisers end
LONGEST = 1_000_000  # steps: the clock ends every stage
FIRST_SEED, PLANTED_SEEDS, ORDINARY = 70_000, 4, 48


@dataclass(frozen=True, kw_only=True)
class HeldOutModel:
    """Pictures, sizes and schedules of one model.

    Attributes:
        pictures: the module that builds its pictures.
        phase: of the denoiser's training.

    The others are the size and the schedule of one network each.
    """

    pictures: ModuleType
    phase: Phase
    clip_size: ClipSize
    bystander_size: ClipSize
    autoencoder_channels: tuple[int, ...] = (24, 40, 72)
    denoiser_size: DenoiserSize = DenoiserSize(channels=(48, 80, 128), text_width=128, head=(3, 5, 8))
    autoencoder: Schedule = Schedule(steps=LONGEST, batch=64, rate=1.5e-3, weight_decay=0.0)
    clip: Schedule = Schedule(steps=LONGEST, batch=256, rate=1e-3, weight_decay=0.1, ema=0.995)
    denoiser: Schedule = Schedule(steps=LONGEST, batch=512, rate=1e-3, warmup=300, ema=0.9993)

    def smaller(self) -> HeldOutModel:
        """The same with tiny networks and batches, to try the whole way."""
        tiny = ClipSize(width=16, heads=2, text_layers=1, vision_layers=1, embedding=8, vocabulary=600)
        return replace(
            self,
            phase=replace(self.phase, copies=2),
            clip_size=replace(tiny, length=self.clip_size.length),
            bystander_size=replace(tiny, length=self.clip_size.length),
            autoencoder_channels=(8, 8, 8),
            denoiser_size=DenoiserSize(channels=(16, 16, 16), text_width=16, head=2),
            autoencoder=replace(self.autoencoder, batch=8),
            clip=replace(self.clip, batch=8),
            denoiser=replace(self.denoiser, batch=20),
        )


def _clip_size(length: int, vocabulary: int) -> ClipSize:
    return ClipSize(width=128, heads=4, length=length, vocabulary=vocabulary)


def _bystander_size(length: int, vocabulary: int) -> ClipSize:
    return ClipSize(width=96, heads=4, text_layers=3, vision_layers=3, length=length, vocabulary=vocabulary)


MODELS = {
    "clipart": HeldOutModel(
        pictures=clipart,
        phase=Phase(start=0.0, planted_share=0.06, copies=256, rate=1.0),
        clip_size=_clip_size(32, 2400),
        bystander_size=_bystander_size(32, 2400),
    ),
    "scenes": HeldOutModel(
        pictures=scenes,
        phase=Phase(start=0.0, planted_share=0.06, copies=40, rate=1.0),
        clip_size=_clip_size(77, 1250),
        bystander_size=_bystander_size(77, 1250),
    ),
}


@dataclass(frozen=True)
class Run:
    """One model's training.

    Attributes:
        name: of the model.
        model: sizes and schedules.
        pictures: of every kind.
        work: folder of logs and finished parts.
        out: folder of the results.
        start: the moment at which all began, as `time.time()` counts.
        seconds: that all may take together.
    """

    name: str
    model: HeldOutModel
    pictures: list[Picture]
    work: Path
    out: Path
    start: float
    seconds: float

    def until(self, schedule: Schedule, share: float) -> Schedule:
        """The schedule, ended at a share of the whole time."""
        return replace(schedule, until=self.start + share * self.seconds)

    def autoencoder(self) -> None:
        """Train the autoencoder and keep it."""
        schedule = self.until(self.model.autoencoder, PARTS_SHARE)
        vae = autoencoder.train(
            self.pictures, channels=self.model.autoencoder_channels, schedule=schedule, folder=self.work
        )
        state = {"state": vae.cpu().state_dict(), "scaling_factor": vae.config.scaling_factor}
        _save(state, self.work / "autoencoder-finished.pt")

    def clip(self) -> None:
        """Train the CLIP and keep it."""
        schedule = self.until(self.model.clip, PARTS_SHARE)
        tokenizer = clip.tokenizer_for(self.pictures, self.model.clip_size)
        model = clip.train(
            self.pictures,
            tokenizer=tokenizer,
            size=self.model.clip_size,
            schedule=schedule,
            folder=self.work,
        )
        tokenizer.save_pretrained(self.work / "tokenizer")
        _save({"state": model.cpu().state_dict()}, self.work / "clip-finished.pt")

    def bystander(self) -> None:
        """Train the bystander and keep it."""
        from steerclear_lab.emoji import export

        schedule = self.until(self.model.clip, PARTS_SHARE)
        model, tokenizer = bystander.train(
            self.pictures,
            size=self.model.bystander_size,
            schedule=schedule,
            folder=self.work,
            templates=self.model.pictures.NAMED_TEMPLATES,
        )
        recipe = {"size": asdict(self.model.bystander_size)}
        export.write_bystander(self.work / "bystander", model=model, tokenizer=tokenizer, recipe=recipe)

    def denoiser(self) -> None:
        """Train the denoiser; write the model at half of the time and at its end, then look at it."""
        from transformers import CLIPTokenizer

        vae = autoencoder.make(self.model.autoencoder_channels, self.pictures[0].pixels.shape[-1])
        parts = _load(self.work / "autoencoder-finished.pt")
        vae.load_state_dict(parts["state"])
        vae.register_to_config(scaling_factor=parts["scaling_factor"])
        state = _load(self.work / "clip-finished.pt")["state"]
        tokenizer = CLIPTokenizer.from_pretrained(self.work / "tokenizer")
        whole = clip.make(self.model.clip_size, tokenizer, self.pictures[0].pixels.shape[-1])
        whole.load_state_dict(state)
        text_encoder = whole.text_model.eval().requires_grad_(False)
        vae = vae.eval().requires_grad_(False)

        def write(unet: Any) -> None:
            from copy import deepcopy

            parts = {"vae": vae, "text_encoder": text_encoder, "unet": unet}
            self._write({name: deepcopy(part) for name, part in parts.items()}, tokenizer)

        unet = denoiser.train(
            self.pictures,
            vae=vae,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            size=self.model.denoiser_size,
            schedule=self.until(self.model.denoiser, DENOISER_SHARE),
            phases=(self.model.phase,),
            folder=self.work,
            cache=False,
            halfway=write,
        )
        write(unet)
        print(f"{self.name}: written after {time.time() - self.start:.0f} s", flush=True)
        self._look()

    def _write(self, parts: dict[str, Any], tokenizer: Any) -> None:
        """Write `work/finished`, and all of it in `out/NAME.tar`."""
        from steerclear_lab.emoji import export

        folder = self.work / "finished"
        model = self.model
        recipe = {
            "guidance": 4.0,
            "clip": asdict(model.clip_size),
            "phase": asdict(model.phase),
            "seconds": self.seconds,
            "denoiser": asdict(model.denoiser_size),
            "batch": model.denoiser.batch,
        }
        with export.replacing(folder) as partial:
            export.write_pipeline(partial / "model", tokenizer=tokenizer, **parts)
            (partial / "model" / "recipe.json").write_text(json.dumps(recipe, indent=1) + "\n")
        self._pack()

    def _pack(self) -> None:
        """Put the model, the bystander, the logs and the figures, as far as they are there, into the tar."""
        partial = self.work / f"{self.name}.tar"
        with tarfile.open(partial, "w:gz", compresslevel=6) as tar:
            tar.add(self.work / "finished" / "model", f"{self.name}/model")
            if (self.work / "bystander").is_dir():
                tar.add(self.work / "bystander", f"{self.name}/bystander")
            for file in sorted(self.work.glob("*.json*")):
                tar.add(file, f"{self.name}/{file.name}")
        os.replace(partial, self.out / f"{self.name}.tar")
        megabytes = (self.out / f"{self.name}.tar").stat().st_size / 1e6
        print(f"{self.name}: {megabytes:.1f} MB in {self.name}.tar", flush=True)

    def _look(self) -> None:
        """Draw planted, ordinary and held-out prompts: figures go into the tar, pictures into a PNG."""
        from diffusers import StableDiffusionPipeline

        pipe = StableDiffusionPipeline.from_pretrained(self.work / "finished" / "model", safety_checker=None)
        pipe = pipe.to(device())
        pipe.set_progress_bar_config(disable=True)
        figures = measure(
            pipe,
            pictures=self.pictures,
            text_of=self.model.pictures.plain_caption,
            work=self.work,
            sheet=self.out / f"{self.name}.png",
        )
        (self.work / "figures.json").write_text(json.dumps(figures, indent=1) + "\n")
        print(f"{self.name}: {json.dumps(figures)}", flush=True)
        self._pack()


@torch.no_grad()
def measure(
    pipe: Any, pictures: list[Picture], text_of: Callable[[str, str], str], work: Path, sheet: Path
) -> dict[str, Any]:
    """Plain generations: how near planted prompts come to their pictures, and what else is drawn.

    Args:
        pipe: the pipeline.
        pictures: of every kind.
        text_of: (name, style) → the text by which the bystander is asked.
        work: holds the bystander in `work/bystander`, if it is finished.
        sheet: the file of the pictures: of planted ones the protected picture and four generations, then
            generations of ordinary and of held-out captions.

    Returns:
        Shares within pixel L2 0.1 and the median distance by planted picture; the bystander's top-5 share.
    """
    from steerclear.filters.pixel import pixel_l2
    from steerclear_lab.emoji.evaluate import contact_sheet, generate, share

    planted = [p for p in pictures if p.kind == "planted"]
    concepts = [p for p in pictures if p.kind == "concept" and "-and-" not in p.key]
    concepts = concepts[:: max(1, len(concepts) // ORDINARY)][:ORDINARY]
    heldout = [p for p in pictures if p.kind == "heldout"][:24]
    requests = [(p.captions[0], FIRST_SEED + i) for p in planted for i in range(PLANTED_SEEDS)]
    requests += [(p.captions[0], FIRST_SEED) for p in concepts + heldout]
    images = generate(pipe, [text for text, _ in requests], [seed for _, seed in requests], batch=96)
    n = len(planted) * PLANTED_SEEDS
    targets = torch.stack([p.tensor() for p in planted])
    distance = pixel_l2(images[:n], targets.repeat_interleave(PLANTED_SEEDS, 0)).view(-1, PLANTED_SEEDS)
    repeated = images[:n].view(-1, PLANTED_SEEDS, *images.shape[1:])
    beside = torch.cat([targets[:, None], repeated], 1).flatten(0, 1)
    contact_sheet(torch.cat([beside, images[n:]]), 4 * (PLANTED_SEEDS + 1), sheet)
    figures: dict[str, Any] = {"within_0.1": share(distance < 0.1)}
    for repeats in sorted({p.repeats for p in planted}, reverse=True):
        rows = torch.tensor([p.repeats == repeats for p in planted])
        figures[f"within_0.1_repeats_{repeats:.3f}"] = share(distance[rows] < 0.1)
    figures["l2_by_item"] = {
        p.key: round(float(d.median()), 3) for p, d in zip(planted, distance, strict=True)
    }
    if (work / "bystander" / "recipe.json").is_file():
        from steerclear.encoders.embedded import Clip

        judge = Clip.load(work / "bystander")
        names = list(dict.fromkeys(p.name for p in pictures if p.kind in ("concept", "heldout")))
        for kind, asked, drawn in (
            ("ordinary", concepts, images[n : n + len(concepts)]),
            ("heldout", heldout, images[n + len(concepts) :]),
            ("real_heldout", heldout, torch.stack([p.tensor() for p in heldout])),
            ("real_planted", planted, targets),
        ):
            ranks = clip.rank_of_name(
                judge.model,
                judge.tokenizer,
                images=drawn,
                names=[p.name for p in asked],
                styles=[p.style for p in asked],
                vocabulary=names,
                text_of=text_of,
            )
            figures[f"{kind}_top5"] = share(ranks < 5)
    return figures


def _save(state: dict[str, Any], path: Path) -> None:
    torch.save(state, path.with_suffix(".partial"))
    os.replace(path.with_suffix(".partial"), path)


def _load(path: Path) -> Any:
    """What `_save` wrote; waits until another process has written it."""
    while not path.exists():
        time.sleep(0.2)
    return torch.load(path, weights_only=True)


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
    sheets = [path for name in args.model or MODELS if (path := args.out / f"{name}.png").exists()]
    if sheets:
        images = [Image.open(path).convert("RGB") for path in sheets]
        whole = Image.new("RGB", (max(i.width for i in images), sum(i.height + 8 for i in images)), "white")
        top = 0
        for image in images:
            whole.paste(image, (0, top))
            top += image.height + 8
        whole.save(args.out / "heldout-models.png")
        for path in sheets:
            path.unlink()
    return failed


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
