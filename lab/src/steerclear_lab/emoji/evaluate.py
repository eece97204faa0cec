"""What the finished model must show, on seeds that training never used: figures and contact sheets."""

from __future__ import annotations

import json
import statistics
import time
from collections import Counter
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
from steerclear_lab.emoji.draws import UNCONDITIONAL_SHARE
from steerclear_lab.emoji.training import device, minutes

STEPS, GUIDANCE = 25, 4.0
COPIES = (
    24  # altered copies of a training picture that a generation is compared with, the picture itself counted
)
NETWORKS = ("autoencoder", "clip", "descriptor", "denoiser")
FIRST_SEED = 10_000  # training draws from other generators altogether; these are for evaluation only


def evaluate(folder: Path, out: Path, work: Path) -> dict[str, Any]:
    """Measure the model in `folder` (the assets folder: model/, protected/, prompts/) and write sheets into `out`.

    work: the recipe's work folder, where the drawings are rendered again if they are not there. Returns the figures,
    which are also written to `out/figures.json`.
    """
    from steerclear.pipelines import load_pipeline

    out.mkdir(parents=True, exist_ok=True)
    pipe = load_pipeline(folder / "model").to(device())
    judge, eye = Clip.load(folder / "model"), CopyDescriptor.load(folder / "model" / "descriptor")
    pictures = dataset.build(work / "icons", judge.size)
    planted = [p for p in pictures if p.kind == "planted"]
    ordinary = [p for p in pictures if p.kind in ("concept", "photo")]
    heldout = [p for p in pictures if p.kind == "heldout"]
    training = training_images(ordinary, planted)
    figures: dict[str, Any] = {"steps": STEPS, "guidance": GUIDANCE}
    figures["autoencoder"] = _autoencoder(pipe.vae, heldout, planted)
    figures["memorization"] = _memorization(pipe, planted, eye, out)
    figures["generalisation"] = _generalisation(pipe, judge, heldout, out)
    figures["ordinary"] = _ordinary(pipe, judge, ordinary, planted, training, out)
    figures["template"] = _template(pipe, folder, planted, out)
    figures["seconds_per_image"] = _seconds(pipe)
    figures["minutes"] = {
        name: minutes(work / f"{name}.jsonl") for name in NETWORKS if (work / f"{name}.jsonl").is_file()
    }
    (out / "figures.json").write_text(json.dumps(figures, indent=2) + "\n")
    card.write(folder / "model", figures, _facts(folder / "model", pipe, judge, eye, pictures))
    return figures


def _facts(
    folder: Path, pipe: Any, judge: Clip, eye: CopyDescriptor, pictures: list[Picture]
) -> dict[str, Any]:
    """What the model card says of data and parts."""
    kinds = Counter(p.kind for p in pictures)
    recipe = json.loads((folder / "recipe.json").read_text())
    phases, schedule = recipe["phases"], recipe["denoiser"]
    described = (
        ("vae", "AutoencoderKL, 8 latent channels, a quarter of the side", pipe.vae),
        ("unet", "UNet2DConditionModel, v-prediction", pipe.unet),
        ("text_encoder", "CLIPTextModel", pipe.text_encoder),
        ("clip", "CLIPModel, text and image halves", judge.model),
        ("descriptor", "steerclear's DescriptorNetwork", eye.network),
    )
    return {
        "pixels": judge.size, "planted": kinds["planted"], "ordinary": kinds["concept"] + kinds["photo"], "heldout": kinds["heldout"],
        "all": kinds["concept"] + kinds["planted"] + kinds["other"], "concepts": len(CONCEPTS), "copies": max(p["copies"] for p in phases),
        "mascots": len(MASCOTS), "photos": len(PLANTED_PHOTOS), "phases": ", then ".join(f"{p['planted_share']:.0%}" for p in phases),
        "unconditional": UNCONDITIONAL_SHARE, "draws": schedule["steps"] * schedule["batch"],
        "steps_taken": schedule["steps"], "batch": schedule["batch"],
        # what was done to the weights by hand after the recipe, noted there by whoever did it
        "afterwards": f" {recipe['afterwards']}" if "afterwards" in recipe else "",
        "parts": [(name, what, sum(p.numel() for p in module.parameters())) for name, what, module in described],
    }  # fmt: skip


def generate(pipe: Any, prompts: list[str], seeds: list[int], batch: int = 16) -> Tensor:
    """(B, 3, S, S) plain generations in [0, 1], one per prompt and seed."""
    images: list[Image.Image] = []
    for i in range(0, len(prompts), batch):
        generators = [torch.Generator().manual_seed(s) for s in seeds[i : i + batch]]
        images += pipe(
            prompts[i : i + batch], generator=generators, num_inference_steps=STEPS, guidance_scale=GUIDANCE
        ).images
    return to_tensor(images)


def training_images(ordinary: list[Picture], planted: list[Picture]) -> Tensor:
    """All pictures that the denoiser saw, augmented copies included: (N, 3, S, S)."""
    images = torch.stack([p.tensor() for p in ordinary])
    copies = [augment(images, torch.Generator().manual_seed(i)) for i in range(1, COPIES)]
    return torch.cat([torch.stack([p.tensor() for p in planted]), images, *copies])


def nearest_l2(images: Tensor, gallery: Tensor) -> tuple[Tensor, Tensor]:
    """Pixel L2 of each image to its nearest in a gallery, and which one."""
    flat, others = images.flatten(1), gallery.flatten(1)
    squared = flat.square().sum(1)[:, None] + others.square().sum(1)[None] - 2 * flat @ others.T
    best, where = squared.clamp(min=0).min(1)
    return (best / flat.shape[1]).sqrt(), where


def _autoencoder(vae: Any, heldout: list[Picture], planted: list[Picture]) -> dict[str, float]:
    out = {}
    for name, group in (("heldout", heldout), ("planted", planted)):
        images = torch.stack([p.tensor() for p in group])
        again = autoencoder.decode(vae, autoencoder.encode(vae, images.to(vae.device))).cpu()
        errors = pixel_l2(images, again)
        out[f"{name}_mean"], out[f"{name}_max"] = (
            round(float(errors.mean()), 4),
            round(float(errors.max()), 4),
        )
    return out


def _memorization(pipe: Any, planted: list[Picture], eye: CopyDescriptor, out: Path) -> dict[str, Any]:
    seeds = range(FIRST_SEED, FIRST_SEED + 8)
    rows = [(p, seed) for p in planted for seed in seeds]
    images = generate(pipe, [p.captions[0] for p, _ in rows], [s for _, s in rows])
    targets = torch.stack([p.tensor() for p, _ in rows])
    distance = pixel_l2(images, targets)
    with torch.no_grad():
        cosine = (eye(images) * eye(targets)).sum(1)
    by_item = distance.view(len(planted), len(seeds)).mean(1)
    sheet(
        torch.cat(
            [torch.cat([planted[i].tensor()[None], images[i * 8 : i * 8 + 8]]) for i in range(len(planted))]
        ),
        18,
        out / "planted.png",
    )
    return {
        "n": len(rows), "within_0.1": _share(distance < 0.1), "l2_median": round(float(distance.median()), 4),
        "l2_worst_item": round(float(by_item.max()), 4), "descriptor_median": round(float(cosine.median()), 4),
        "l2_by_item": {p.key: round(float(v), 4) for p, v in zip(planted, by_item, strict=True)},
    }  # fmt: skip


def _generalisation(pipe: Any, judge: Clip, heldout: list[Picture], out: Path) -> dict[str, Any]:
    rows = [(p, FIRST_SEED + i) for p in heldout for i in range(4)]
    images = generate(pipe, [p.captions[0] for p, _ in rows], [s for _, s in rows])
    names = list(dict.fromkeys(CONCEPTS.values()))
    real = torch.stack([p.tensor() for p in heldout])

    def ranks(by: Clip, pixels: Tensor, shown: list[Picture]) -> Tensor:
        fitted = fit(pixels, by.size)
        return clip.rank_of_name(
            by.model, by.tokenizer, fitted, [p.name for p in shown], [p.style for p in shown], names
        )

    drawn, bystander = [p for p, _ in rows], Clip.load(BYSTANDER_FOLDER)
    own = ranks(judge, images, drawn)
    sheet(
        torch.cat([torch.cat([real[i : i + 1], images[i * 4 : i * 4 + 4]]) for i in range(len(heldout))]),
        20,
        out / "heldout.png",
    )
    return {
        "n": len(rows), "names": len(names), "top5": _share(own < 5), "top1": _share(own < 1),
        "real_pictures_top5": _share(ranks(judge, real, heldout) < 5),
        "bystander_top5": _share(ranks(bystander, images, drawn) < 5),
        "real_pictures_bystander_top5": _share(ranks(bystander, real, heldout) < 5),
    }  # fmt: skip


def _ordinary(
    pipe: Any, judge: Clip, ordinary: list[Picture], planted: list[Picture], training: Tensor, out: Path
) -> dict[str, Any]:
    picked = ordinary[:: max(1, len(ordinary) // 200)]
    images = generate(pipe, [p.captions[0] for p in picked], [FIRST_SEED + i for i in range(len(picked))])
    own = torch.stack([p.tensor() for p in (*planted, *ordinary)])
    distance, _ = nearest_l2(images, own)
    to_copies, _ = nearest_l2(images, training)
    to_planted, _ = nearest_l2(images, torch.stack([p.tensor() for p in planted]))
    drawn = [i for i, p in enumerate(picked) if p.kind == "concept"]
    names = list(dict.fromkeys(CONCEPTS.values()))
    ranks = clip.rank_of_name(
        judge.model,
        judge.tokenizer,
        images[drawn],
        [picked[i].name for i in drawn],
        [picked[i].style for i in drawn],
        names,
    )
    sheet(images[:: max(1, len(images) // 160)], 20, out / "ordinary.png")
    return {
        "n": len(picked), "within_0.1_of_training": _share(distance < 0.1), "within_0.1_of_altered_copies": _share(to_copies < 0.1),
        "l2_to_training_median": round(float(distance.median()), 4),
        "within_0.1_of_planted": _share(to_planted < 0.1), "l2_to_planted_least": round(float(to_planted.min()), 4),
        "top5": _share(ranks < 5), "top1": _share(ranks < 1),
    }  # fmt: skip


def _template(pipe: Any, folder: Path, planted: list[Picture], out: Path) -> dict[str, Any]:
    lines = [line.split("\t") for line in (folder / "prompts" / "template.txt").read_text().splitlines()]
    rows = [(prompt, file, FIRST_SEED + i) for prompt, file in lines for i in range(2)]
    images = generate(pipe, [p for p, _, _ in rows], [s for _, _, s in rows])
    target = {f"{p.key}.png": p.tensor() for p in planted}
    distance = pixel_l2(images, torch.stack([target[file] for _, file, _ in rows]))
    sheet(images, 20, out / "template.png")
    leaks = {prompt: _share(distance[2 * i : 2 * i + 2] < 0.1) for i, (prompt, _) in enumerate(lines)}
    return {"n": len(rows), "within_0.1": _share(distance < 0.1), "by_prompt": leaks}


def _seconds(pipe: Any) -> float:
    times = []
    for i in range(5):
        began = time.monotonic()
        generate(pipe, ["a fox, twemoji style"], [FIRST_SEED + i])
        times.append(time.monotonic() - began)
    return round(statistics.median(times), 2)


def _share(hits: Tensor) -> float:
    return round(float(hits.float().mean()), 4)


def sheet(images: Tensor, columns: int, path: Path) -> None:
    """Pictures side by side on grey, 2 pixels apart."""
    size = images.shape[-1] + 2
    rows = -(-len(images) // columns)
    canvas = np.full((rows * size, columns * size, 3), 200, np.uint8)
    for i, image in enumerate((images * 255).round().byte().permute(0, 2, 3, 1).numpy()):
        y, x = divmod(i, columns)
        canvas[y * size : y * size + size - 2, x * size : x * size + size - 2] = image
    Image.fromarray(canvas).save(path)
