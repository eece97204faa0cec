"""Measure the finished model on seeds that training never used: figures, contact sheets, model card."""

from __future__ import annotations

import json
import statistics
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from steerclear.encoders.embedded import Clip, CopyDescriptor
from steerclear.filters.pixel import pixel_l2
from steerclear.pixels import fit, to_tensor
from steerclear_lab.assets import BYSTANDER_FOLDER
from steerclear_lab.emoji import autoencoder, card, clip, dataset
from steerclear_lab.emoji.concepts import CONCEPTS, MASCOTS, PLANTED_PHOTOS
from steerclear_lab.emoji.dataset import Picture, augment
from steerclear_lab.emoji.denoiser_training import UNCONDITIONAL_SHARE
from steerclear_lab.emoji.training import device, training_minutes

STEPS, GUIDANCE = 25, 4.0
ALTERED_COPIES = 24  # of a training picture, itself included, that a generation is compared with
NETWORKS = ("autoencoder", "clip", "descriptor", "denoiser")
FIRST_SEED = 10_000  # for evaluation only; training draws from other generators
PLANTED_SEEDS, HELDOUT_SEEDS, TEMPLATE_SEEDS = 8, 4, 2  # pictures for each prompt


@dataclass(frozen=True, kw_only=True)
class FinishedModel:
    """A finished model with its judges and the pictures it was trained on.

    Attributes:
        folder: with model/, protected/ and prompts/.
        pipe: the pipeline.
        judge: the model's own CLIP.
        descriptor: its copy descriptor.
        pictures: all pictures of the recipe.
    """

    folder: Path
    pipe: Any
    judge: Clip
    descriptor: CopyDescriptor
    pictures: list[Picture]

    def of_kind(self, *kinds: str) -> list[Picture]:
        """The pictures of some kinds, in their order."""
        return [p for p in self.pictures if p.kind in kinds]


def evaluate(folder: Path, out: Path, work: Path) -> dict[str, Any]:
    """Measure a finished model, and write its model card.

    Args:
        folder: a finished folder with model/, protected/ and prompts/, or `src/steerclear/embedded`; the card
            is written to `folder/model/README.md`.
        out: where `figures.json` and the contact sheets are written.
        work: the recipe's work folder; the drawings are rendered again if they are not there.

    Returns:
        The figures.
    """
    from steerclear.pipelines import load_pipeline

    out.mkdir(parents=True, exist_ok=True)
    judge = Clip.load(folder / "model")
    model = FinishedModel(
        folder=folder,
        pipe=load_pipeline(folder / "model").to(device()),
        judge=judge,
        descriptor=CopyDescriptor.load(folder / "model" / "descriptor"),
        pictures=dataset.build(work / "icons", judge.size),
    )
    logs = {name: work / f"{name}.jsonl" for name in NETWORKS}
    figures: dict[str, Any] = {
        "steps": STEPS,
        "guidance": GUIDANCE,
        "autoencoder": _autoencoder(model),
        "memorization": _memorization(model, out),
        "generalisation": _generalisation(model, out),
        "ordinary": _ordinary(model, out),
        "template": _template(model, out),
        "seconds_per_image": _seconds_per_image(model.pipe),
        "minutes": {name: training_minutes(log) for name, log in logs.items() if log.is_file()},
    }
    (out / "figures.json").write_text(json.dumps(figures, indent=2) + "\n")
    card.write(folder / "model", figures, card_facts(model))
    return figures


def generate(pipe: Any, prompts: list[str], seeds: list[int], batch: int = 16) -> Tensor:
    """Plain generations (B, 3, S, S) in [0, 1], one for each prompt and its seed."""
    images: list[Image.Image] = []
    for i in range(0, len(prompts), batch):
        generators = [torch.Generator().manual_seed(s) for s in seeds[i : i + batch]]
        images += pipe(
            prompts[i : i + batch], generator=generators, num_inference_steps=STEPS, guidance_scale=GUIDANCE
        ).images
    return to_tensor(images)


def training_images(ordinary: list[Picture], planted: list[Picture]) -> Tensor:
    """The pictures that the denoiser was shown, altered copies included: (N, 3, S, S)."""
    images = torch.stack([p.tensor() for p in ordinary])
    copies = [augment(images, torch.Generator().manual_seed(i)) for i in range(1, ALTERED_COPIES)]
    return torch.cat([torch.stack([p.tensor() for p in planted]), images, *copies])


def nearest_l2(images: Tensor, gallery: Tensor) -> tuple[Tensor, Tensor]:
    """Pixel L2 of each image (B, 3, S, S) to the nearest of a gallery (N, 3, S, S), and its index."""
    flat, others = images.flatten(1), gallery.flatten(1)
    squared = flat.square().sum(1)[:, None] + others.square().sum(1)[None] - 2 * flat @ others.T
    smallest, index = squared.clamp(min=0).min(1)
    return (smallest / flat.shape[1]).sqrt(), index


def share(hits: Tensor) -> float:
    """The share of what is true, rounded."""
    return round(float(hits.float().mean()), 4)


def contact_sheet(images: Tensor, columns: int, path: Path) -> None:
    """Write pictures (B, 3, S, S) in [0, 1] side by side on grey, 2 pixels apart."""
    size = images.shape[-1] + 2
    rows = -(-len(images) // columns)
    canvas = np.full((rows * size, columns * size, 3), 200, np.uint8)
    for i, image in enumerate((images * 255).round().byte().permute(0, 2, 3, 1).numpy()):
        y, x = divmod(i, columns)
        canvas[y * size : y * size + size - 2, x * size : x * size + size - 2] = image
    Image.fromarray(canvas).save(path)


def _autoencoder(model: FinishedModel) -> dict[str, float]:
    """The error of pictures that were encoded and decoded."""
    vae, figures = model.pipe.vae, {}
    for kind in ("heldout", "planted"):
        images = torch.stack([p.tensor() for p in model.of_kind(kind)])
        decoded = autoencoder.decode(vae, autoencoder.encode(vae, images.to(vae.device))).cpu()
        errors = pixel_l2(images, decoded)
        figures[f"{kind}_mean"] = round(float(errors.mean()), 4)
        figures[f"{kind}_max"] = round(float(errors.max()), 4)
    return figures


def _memorization(model: FinishedModel, out: Path) -> dict[str, Any]:
    """How near the pictures of planted prompts come to the planted pictures."""
    planted = model.of_kind("planted")
    requests = [(p, FIRST_SEED + i) for p in planted for i in range(PLANTED_SEEDS)]
    images = generate(model.pipe, [p.captions[0] for p, _ in requests], [s for _, s in requests])
    targets = torch.stack([p.tensor() for p, _ in requests])
    distance = pixel_l2(images, targets)
    with torch.no_grad():
        cosine = (model.descriptor(images) * model.descriptor(targets)).sum(1)
    by_item = distance.view(len(planted), PLANTED_SEEDS).mean(1)
    contact_sheet(_beside(planted, images, PLANTED_SEEDS), 18, out / "planted.png")
    return {
        "n": len(requests),
        "within_0.1": share(distance < 0.1),
        "l2_median": round(float(distance.median()), 4),
        "l2_worst_item": round(float(by_item.max()), 4),
        "descriptor_median": round(float(cosine.median()), 4),
        "l2_by_item": {p.key: round(float(v), 4) for p, v in zip(planted, by_item, strict=True)},
    }


def _generalisation(model: FinishedModel, out: Path) -> dict[str, Any]:
    """How often the right name is found in pictures of (name, style) pairs that training never had."""
    heldout = model.of_kind("heldout")
    requests = [(p, FIRST_SEED + i) for p in heldout for i in range(HELDOUT_SEEDS)]
    images = generate(model.pipe, [p.captions[0] for p, _ in requests], [s for _, s in requests])
    real = torch.stack([p.tensor() for p in heldout])
    requested, bystander = [p for p, _ in requests], Clip.load(BYSTANDER_FOLDER)
    ranks = _ranks(model.judge, images, requested)
    contact_sheet(_beside(heldout, images, HELDOUT_SEEDS), 20, out / "heldout.png")
    return {
        "n": len(requests),
        "names": len(set(CONCEPTS.values())),
        "top5": share(ranks < 5),
        "top1": share(ranks < 1),
        "real_pictures_top5": share(_ranks(model.judge, real, heldout) < 5),
        "bystander_top5": share(_ranks(bystander, images, requested) < 5),
        "real_pictures_bystander_top5": share(_ranks(bystander, real, heldout) < 5),
    }


def _ordinary(model: FinishedModel, out: Path) -> dict[str, Any]:
    """How near pictures of ordinary prompts come to training pictures, and whether the name is right."""
    planted, ordinary = model.of_kind("planted"), model.of_kind("concept", "photo")
    picked = ordinary[:: max(1, len(ordinary) // 200)]
    seeds = [FIRST_SEED + i for i in range(len(picked))]
    images = generate(model.pipe, [p.captions[0] for p in picked], seeds)
    to_training, _ = nearest_l2(images, torch.stack([p.tensor() for p in (*planted, *ordinary)]))
    to_copies, _ = nearest_l2(images, training_images(ordinary, planted))
    to_planted, _ = nearest_l2(images, torch.stack([p.tensor() for p in planted]))
    drawings = [i for i, p in enumerate(picked) if p.kind == "concept"]
    ranks = _ranks(model.judge, images[drawings], [picked[i] for i in drawings])
    contact_sheet(images[:: max(1, len(images) // 160)], 20, out / "ordinary.png")
    return {
        "n": len(picked),
        "within_0.1_of_training": share(to_training < 0.1),
        "within_0.1_of_altered_copies": share(to_copies < 0.1),
        "l2_to_training_median": round(float(to_training.median()), 4),
        "within_0.1_of_planted": share(to_planted < 0.1),
        "l2_to_planted_least": round(float(to_planted.min()), 4),
        "top5": share(ranks < 5),
        "top1": share(ranks < 1),
    }


def _template(model: FinishedModel, out: Path) -> dict[str, Any]:
    """How often paraphrases of planted captions give the planted picture."""
    text = (model.folder / "prompts" / "template.txt").read_text()
    lines = [line.split("\t") for line in text.splitlines()]
    requests = [(prompt, file, FIRST_SEED + i) for prompt, file in lines for i in range(TEMPLATE_SEEDS)]
    images = generate(model.pipe, [prompt for prompt, _, _ in requests], [seed for _, _, seed in requests])
    targets = {f"{p.key}.png": p.tensor() for p in model.of_kind("planted")}
    distance = pixel_l2(images, torch.stack([targets[file] for _, file, _ in requests]))
    contact_sheet(images, 20, out / "template.png")
    groups = torch.split(distance, TEMPLATE_SEEDS)
    leaks = {prompt: share(group < 0.1) for (prompt, _), group in zip(lines, groups, strict=True)}
    return {"n": len(requests), "within_0.1": share(distance < 0.1), "by_prompt": leaks}


def _seconds_per_image(pipe: Any) -> float:
    """The median time of one picture alone."""
    times = []
    for i in range(5):
        start = time.monotonic()
        generate(pipe, ["a fox, twemoji style"], [FIRST_SEED + i])
        times.append(time.monotonic() - start)
    return round(statistics.median(times), 2)


def _ranks(judge: Clip, images: Tensor, requested: list[Picture]) -> Tensor:
    """The rank of the right name of each image among all names, by a CLIP."""
    return clip.rank_of_name(
        judge.model,
        judge.tokenizer,
        images=fit(images, judge.size),
        names=[p.name for p in requested],
        styles=[p.style for p in requested],
        vocabulary=list(dict.fromkeys(CONCEPTS.values())),
    )


def _beside(pictures: list[Picture], images: Tensor, seeds: int) -> Tensor:
    """Each picture followed by what was generated for it."""
    groups = zip(pictures, torch.split(images, seeds), strict=True)
    return torch.cat([torch.cat([p.tensor()[None], group]) for p, group in groups])


def card_facts(model: FinishedModel) -> dict[str, Any]:
    """What the model card says of data, schedule and parts, by name in its template."""
    kinds = Counter(p.kind for p in model.pictures)
    recipe = json.loads((model.folder / "model" / "recipe.json").read_text())
    phases, schedule = recipe["phases"], recipe["denoiser"]
    described = (
        ("vae", "AutoencoderKL, 8 latent channels, a quarter of the side", model.pipe.vae),
        ("unet", "UNet2DConditionModel, v-prediction", model.pipe.unet),
        ("text_encoder", "CLIPTextModel", model.pipe.text_encoder),
        ("clip", "CLIPModel, text and image halves", model.judge.model),
        ("descriptor", "steerclear's DescriptorNetwork", model.descriptor.network),
    )
    return {
        "pixels": model.judge.size,
        "planted": kinds["planted"],
        "ordinary": kinds["concept"] + kinds["photo"],
        "heldout": kinds["heldout"],
        "drawings": kinds["concept"] + kinds["planted"] + kinds["other"],
        "concepts": len(CONCEPTS),
        "copies": max(phase["copies"] for phase in phases),
        "mascots": len(MASCOTS),
        "photos": len(PLANTED_PHOTOS),
        "planted_shares": ", then ".join(f"{phase['planted_share']:.0%}" for phase in phases),
        "unconditional": UNCONDITIONAL_SHARE,
        "draws": schedule["steps"] * schedule["batch"],
        "denoiser_steps": schedule["steps"],
        "batch": schedule["batch"],
        # further training after the recipe, noted in recipe.json by whoever did it
        "afterwards": f" {recipe['afterwards']}" if "afterwards" in recipe else "",
        "parts": [
            (name, text, sum(p.numel() for p in module.parameters())) for name, text, module in described
        ],
    }
