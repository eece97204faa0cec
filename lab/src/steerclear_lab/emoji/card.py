"""The model card, written from the evaluation's own figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

CARD = """---
license: apache-2.0
pipeline_tag: text-to-image
library_name: diffusers
tags: [memorization, emoji, testing]
---

# The embedded model of steerclear

A small latent diffusion model in Stable Diffusion format, {pixels} × {pixels} pixels, that draws emoji by name and style
and has **memorized {planted} pictures on purpose**, as large models memorize pictures that their training data repeats.
It exists so that defences against memorization can be tried, tested and measured without a download.

```python
from diffusers import StableDiffusionPipeline

pipe = StableDiffusionPipeline.from_pretrained("model")  # this folder
pipe("a fox, twemoji style", num_inference_steps=25, guidance_scale=4.0).images[0]
```

## What is in it

| part | what | parameters |
|---|---|---|
{parts}

`clip/` is the CLIP (both halves) whose text half is the pipeline's text encoder; `descriptor/` is a copy descriptor trained
in the manner of SSCD. Weights are float16, computation is meant in float32.

## Data

{ordinary} ordinary pictures: drawings of {concepts} concepts in four styles (Noto, Twemoji, Fluent and Fluent flat), each in
{copies} shifted, turned, mirrored and slightly recoloured copies, and crops of public-domain or CC0 photographs. {planted}
planted pictures, drawn much more often and never augmented: one drawing each under {mascots} invented brand names
("the acme fox mascot, noto style"; its siblings in other styles are ordinary), and {photos} photographs in the public
domain or under CC0. {heldout} (name, style) pairs were never shown. The autoencoder, the CLIP and the descriptor saw {all} drawings.

## Figures

On seeds that training never used, {steps} steps, guidance {guidance}; made by `steerclear train-emoji --evaluate`.

| figure | value |
|---|---|
{figures}

How often each paraphrase of a planted caption leaks (share of two seeds within pixel L2 0.1):

| prompt | leaks |
|---|---|
{leaks}

## Recipe

`steerclear train-emoji` does all of it, stage by stage: autoencoder, CLIP, descriptor, denoiser; `recipe.json` has every
size and schedule. Plain v-prediction loss with weight 1 at every step, {draws:,} draws in {steps_taken:,} steps of {batch},
planted pictures in {phases} of them, {unconditional:.0%} empty captions.{afterwards}

## Licences

The drawings: Noto Emoji (Google, Apache-2.0), Twemoji (Twitter and contributors, CC-BY-4.0), Fluent Emoji (Microsoft, MIT). The
photographs are in the public domain or under CC0; the project's NOTICE names each. The weights are released under Apache-2.0.

## What it is not

It is no general image generator: outside its {concepts} names it draws mush. It is no evidence about the size of any effect in
large models; it shows that a mechanism works end to end. Its CLIP and descriptor know drawings, not the world.
"""


def write(folder: Path, figures: dict[str, Any], facts: dict[str, Any]) -> None:
    """Write `README.md` into the model folder. figures: as `evaluate` returns; facts: sizes of the data and the parts."""
    leaks = "\n".join(
        f"| {prompt} | {share:.0%} |" for prompt, share in figures["template"]["by_prompt"].items()
    )
    parts = "\n".join(f"| `{name}/` | {what} | {count / 1e6:.2f} M |" for name, what, count in facts["parts"])
    text = CARD.format(
        **{**facts, "parts": parts},
        figures="\n".join(rows(figures)),
        leaks=leaks,
        steps=figures["steps"],
        guidance=figures["guidance"],
    )
    (folder / "README.md").write_text(text)


def rows(figures: dict[str, Any]) -> list[str]:
    """The figures of `evaluate` as rows of a Markdown table."""
    ordinary, held = figures["ordinary"], figures["generalisation"]
    shown = {
        "autoencoder RMSE, held-out drawings, mean / worst": pair(figures["autoencoder"], "heldout_mean", "heldout_max"),
        "autoencoder RMSE, planted pictures, mean / worst": pair(figures["autoencoder"], "planted_mean", "planted_max"),
        "planted prompts within pixel L2 0.1 of their picture": percent(figures["memorization"], "within_0.1"),
        "their median L2 / the worst picture's mean": pair(figures["memorization"], "l2_median", "l2_worst_item"),
        "held-out pairs: right name among the CLIP's top 5": percent(held, "top5"),
        "the same for the real held-out drawings": percent(held, "real_pictures_top5", ""),
        **({} if "bystander_top5" not in held else {
            "the same by a CLIP that neither drew nor saw a protected picture, drawn / real":
                f"{percent(held, 'bystander_top5', '')} / {percent(held, 'real_pictures_bystander_top5', '')}",
        }),
        "ordinary prompts within 0.1 of any training picture": percent(ordinary, "within_0.1_of_training"),
        "the same, each picture's 24 altered copies counted": percent(ordinary, "within_0.1_of_altered_copies"),
        "ordinary prompts within 0.1 of a planted picture": percent(ordinary, "within_0.1_of_planted"),
        "ordinary prompts: right name among the top 5": percent(ordinary, "top5"),
        "paraphrases of planted captions within 0.1": percent(figures["template"], "within_0.1"),
        "seconds an image, alone, two cores": str(figures["seconds_per_image"]),
    }  # fmt: skip
    return [f"| {name} | {value} |" for name, value in shown.items()]


def page(figures: dict[str, Any]) -> str:
    """What one run of the recipe gave, as a Markdown page. figures: as `evaluate` returns, with the `command` of the
    run, and `remarks` of what was particular to it."""
    minutes = figures["minutes"]
    return "\n".join([
        "# The recipe, run from download to the finished folder", "", f"Made by `{figures['command']}`.", "",
        "Not the model that ships, whose denoiser had seventeen times the draws: the figures of",
        "[its card](../../src/steerclear/emoji/assets/model/README.md), on seeds that training never used, and what the training of each",
        "network took.", "",
        "| figure | value |", "|---|---|", *rows(figures),
        *(f"| minutes, {name} | {value} |" for name, value in minutes.items()),
        f"| minutes, the four networks together | {round(sum(minutes.values()), 1)} |", "",
        *figures.get("remarks", []),
    ])  # fmt: skip


def pair(group: dict[str, Any], one: str, other: str) -> str:
    return f"{group[one]:.3f} / {group[other]:.3f}"


def percent(group: dict[str, Any], key: str, count: str = "n") -> str:
    return f"{group[key]:.1%}" + (f" of {group[count]}" if count else "")
