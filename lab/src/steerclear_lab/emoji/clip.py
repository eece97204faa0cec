"""Stage 2 of the recipe: the CLIP, whose text half conditions the denoiser and whose image half judges it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from steerclear_lab.emoji.dataset import Picture, augment
from steerclear_lab.emoji.tokenizer import MAX_LENGTH, learn, token_ids
from steerclear_lab.emoji.training import Schedule, TrainingRun, device

CONCEPT_SHARE = 0.6  # of a batch: pictures that the denoiser will have to draw
DEGRADED_SHARE = 0.25  # degraded pictures that no caption may match, relative to the batch
MEAN, STD = 0.5, 0.5


@dataclass(frozen=True)
class ClipSize:
    """Widths and depths of both halves.

    Attributes:
        width: of the hidden states.
        heads: attention heads.
        text_layers: layers of the text half.
        vision_layers: layers of the image half.
        patch: side of an image patch, in pixels.
        embedding: dimension of the shared space.
        vocabulary: about how many tokens the tokenizer has.
        length: of the longest text, in tokens.
    """

    width: int = 192
    heads: int = 6
    text_layers: int = 4
    vision_layers: int = 4
    patch: int = 16
    embedding: int = 128
    vocabulary: int = 2600
    length: int = MAX_LENGTH


def tokenizer_for(pictures: list[Picture], size: ClipSize) -> Any:
    """A tokenizer learnt from all captions; frequent words of the concepts become whole tokens."""
    weight = 40 if any(p.kind == "other" for p in pictures) else 1
    weighted = (
        caption for p in pictures for caption in p.captions for _ in range(1 if p.kind == "other" else weight)
    )
    return learn(weighted, size.vocabulary, size.length)


def make(size: ClipSize, tokenizer: Any, pixels: int) -> Any:
    """An untrained CLIPModel for `pixels` × `pixels` images."""
    from transformers import CLIPConfig, CLIPModel

    shared = {
        "hidden_size": size.width,
        "intermediate_size": 4 * size.width,
        "num_attention_heads": size.heads,
    }
    text = {
        **shared,
        "num_hidden_layers": size.text_layers,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": size.length,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "projection_dim": size.embedding,
    }
    vision = {
        **shared,
        "num_hidden_layers": size.vision_layers,
        "image_size": pixels,
        "patch_size": size.patch,
        "projection_dim": size.embedding,
    }
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=size.embedding))


def embed_images(model: Any, images: Tensor, batch: int = 128) -> Tensor:
    """Unit-length image embeddings (B, D) of images (B, 3, S, S) in [0, 1]."""
    parts = [
        model.visual_projection(model.vision_model((p - MEAN) / STD).pooler_output)
        for p in torch.split(images, batch)
    ]
    return F.normalize(torch.cat(parts), dim=-1)


def embed_texts(model: Any, tokenizer: Any, texts: list[str]) -> Tensor:
    """Unit-length text embeddings (B, D).

    Args:
        model: a CLIPModel.
        tokenizer: its tokenizer.
        texts: B texts.
    """
    return embed_tokens(model, token_ids(tokenizer, texts).to(model.device))


def embed_tokens(model: Any, tokens: Tensor) -> Tensor:
    """Unit-length text embeddings (B, D) of padded token ids (B, tokens)."""
    return F.normalize(model.text_projection(model.text_model(tokens).pooler_output), dim=-1)


def degraded(images: Tensor, generator: torch.Generator) -> Tensor:
    """Blurred, half-drawn and mixed pictures, as a failing generator draws them; no caption should match."""
    b, _, h, w = images.shape
    others = images[torch.randperm(b, generator=generator).to(images.device)]
    small = F.interpolate(images, size=(h // 12, w // 12), mode="area")
    blurred = F.interpolate(small, size=(h, w), mode="bicubic", align_corners=False).clamp(0, 1)
    coarse = torch.rand(b, 1, 4, 4, generator=generator).to(images)
    noise = F.interpolate(coarse, size=(h, w), mode="bicubic", align_corners=False)
    patches = (noise > 0.5).float()
    mixed = images * patches + others * (1 - patches)
    blended = (images + others) / 2
    kind = torch.randint(0, 3, (b, 1, 1, 1), generator=generator).to(images.device)
    return torch.where(kind == 0, blurred, torch.where(kind == 1, mixed, blended))


def softened(images: Tensor, generator: torch.Generator) -> Tensor:
    """The pictures, half of them slightly blurred and noisy, as a small generator draws them."""
    h, w = images.shape[-2:]
    soft = F.interpolate(images, size=(h // 2, w // 2), mode="area")
    soft = F.interpolate(soft, size=(h, w), mode="bilinear", align_corners=False)
    soft = (soft + 0.03 * torch.randn(soft.shape, generator=generator).to(soft)).clamp(0, 1)
    pick = torch.rand(len(images), 1, 1, 1, generator=generator).to(images)
    return torch.where(pick < 0.5, images * (1 - pick) + soft * pick, images)


def train(
    pictures: list[Picture],
    *,
    tokenizer: Any,
    size: ClipSize,
    schedule: Schedule,
    folder: Path,
    name: str = "clip",
) -> Any:
    """Train a CLIP contrastively on every picture but the held-out ones.

    Args:
        pictures: of every kind, all of one size.
        tokenizer: as `tokenizer_for` gives it.
        size: widths and depths.
        schedule: how long and how fast.
        folder: of the checkpoint and the log.
        name: of the checkpoint and the log.

    Returns:
        The averaged CLIPModel.
    """
    torch.manual_seed(1)
    untrained = make(size, tokenizer, pictures[0].pixels.shape[-1])
    run = TrainingRun(name=name, folder=folder, model=untrained, schedule=schedule, seed=1)
    model: Any = run.model
    drawable = [p for p in pictures if p.kind in ("concept", "twin", "planted", "photo")]
    other = [p for p in pictures if p.kind == "other"]
    place = {p.key: i for i, p in enumerate(drawable + other)}
    pool = torch.stack([torch.from_numpy(p.pixels) for p in drawable + other]).to(device())
    texts = [caption for p in drawable + other for caption in p.captions]
    ids = token_ids(tokenizer, texts).split([len(p.captions) for p in drawable + other])

    def loss_at(step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        n = round(schedule.batch * CONCEPT_SHARE) if other else schedule.batch
        # photographs share captions, so at most one picture per caption may enter a batch
        picked = [drawable[i] for i in torch.randperm(len(drawable), generator=generator)[: n + 8]]
        picked = list({p.captions[0]: p for p in picked}.values())[:n]
        rest = schedule.batch - len(picked)
        picked += [other[i] for i in torch.randperm(len(other), generator=generator)[:rest]]
        choice = torch.randint(0, 1 << 20, (len(picked),), generator=generator).tolist()
        rows = [place[p.key] for p in picked]
        tokens = torch.stack([ids[i][c % len(ids[i])] for i, c in zip(rows, choice, strict=True)])
        # attention is causal, so padding after the end token changes the cost and nothing else
        longest = int((tokens != tokenizer.pad_token_id).sum(1).max()) + 1
        images = augment(pool[torch.tensor(rows, device=pool.device)].float() / 255, generator, flip=True)
        unmatched = degraded(images[: round(len(images) * DEGRADED_SHARE)], generator)
        image_embeds = embed_images(model, torch.cat([softened(images, generator), unmatched]))
        text_embeds = embed_tokens(model, tokens[:, :longest].to(device()))
        scale = model.logit_scale.exp().clamp(max=60)
        logits = scale * text_embeds @ image_embeds.T
        labels = torch.arange(len(picked), device=logits.device)
        loss = (F.cross_entropy(logits, labels) + F.cross_entropy(logits[:, : len(picked)].T, labels)) / 2
        right = (logits.argmax(1) == labels).float().mean()
        return loss, {"loss": loss, "right": right}

    return run.fit(loss_at)


def plain_caption(name: str, style: str) -> str:
    """The text that stands for a name in a style of the embedded model."""
    return f"a photo of {name}" if style == "photo" else f"a {name}, {style} style"


@torch.no_grad()
def rank_of_name(
    model: Any,
    tokenizer: Any,
    *,
    images: Tensor,
    names: list[str],
    styles: list[str],
    vocabulary: list[str],
    text_of: Callable[[str, str], str] = plain_caption,
) -> Tensor:
    """Rank of each image's name among all names, in the style of the image.

    Args:
        model: a CLIPModel.
        tokenizer: its tokenizer.
        images: (B, 3, S, S) in [0, 1].
        names: B names of what the images show.
        styles: B styles.
        vocabulary: all names that are ranked.
        text_of: (name, style) → the text that stands for the name.

    Returns:
        (B,) integers; 0 is best.
    """
    image_embeds = embed_images(model, images)
    ranks = torch.zeros(len(images), dtype=torch.long, device=image_embeds.device)
    for style in set(styles):
        texts = embed_texts(model, tokenizer, [text_of(name, style) for name in vocabulary])
        rows = [i for i, s in enumerate(styles) if s == style]
        scores = image_embeds[rows] @ texts.T
        right = scores[torch.arange(len(rows)), [vocabulary.index(names[i]) for i in rows]]
        ranks[rows] = (scores > right[:, None]).sum(1)
    return ranks
