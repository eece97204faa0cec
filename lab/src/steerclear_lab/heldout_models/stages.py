"""The stages of one held-out model: autoencoder, CLIP, bystander, denoiser. Each runs in its own process."""

from __future__ import annotations

import json
import os
import tarfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from steerclear_lab.emoji import autoencoder, bystander, clip, denoiser
from steerclear_lab.emoji.dataset import Picture
from steerclear_lab.emoji.training import Schedule, device
from steerclear_lab.heldout_models.figures import measure
from steerclear_lab.heldout_models.sizes import HeldOutModel

PARTS_SHARE, DENOISER_SHARE = 0.22, 0.9  # of the time: when the parts and the denoisers end


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


def _save(state: dict[str, Any], path: Path) -> None:
    torch.save(state, path.with_suffix(".partial"))
    os.replace(path.with_suffix(".partial"), path)


def _load(path: Path) -> Any:
    """What `_save` wrote; waits until another process has written it."""
    while not path.exists():
        time.sleep(0.2)
    return torch.load(path, weights_only=True)
