"""The model card and the page of one run of the recipe, written from the evaluation's figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from steerclear_lab.pages import render

Rows = list[tuple[str, str]]


def write(folder: Path, figures: dict[str, Any], facts: dict[str, Any]) -> None:
    """Write the model card, `README.md`, into a model folder.

    Args:
        folder: of the model.
        figures: as `evaluate` returns them.
        facts: sizes of the data, the schedule and the parts, by their names in the template.
    """
    (folder / "README.md").write_text(model_card(figures, facts))


def model_card(figures: dict[str, Any], facts: dict[str, Any]) -> str:
    """The model card as Markdown; arguments as of `write`."""
    values = {
        **facts,
        "figures": rows(figures),
        "leaks": figures["template"]["by_prompt"],
        "steps": figures["steps"],
        "guidance": figures["guidance"],
    }
    return render("model_card.md.j2", values)


def page(figures: dict[str, Any]) -> str:
    """What one run of the recipe gave, as a Markdown page.

    Args:
        figures: as `evaluate` returns them, with the `command` of the run and `remarks` on its circumstances.
    """
    minutes = figures["minutes"]
    values = {
        "command": figures["command"],
        "figures": rows(figures),
        "minutes": minutes,
        "total_minutes": round(sum(minutes.values()), 1),
        "remarks": figures.get("remarks", []),
    }
    return render("recipe.md.j2", values)


def rows(figures: dict[str, Any]) -> Rows:
    """The figures of `evaluate` as (name, value) rows of a table."""
    autoencoder, memorized = figures["autoencoder"], figures["memorization"]
    ordinary, heldout = figures["ordinary"], figures["generalisation"]
    shown = [
        (
            "autoencoder RMSE, held-out drawings, mean / worst",
            _pair(autoencoder, "heldout_mean", "heldout_max"),
        ),
        (
            "autoencoder RMSE, planted pictures, mean / worst",
            _pair(autoencoder, "planted_mean", "planted_max"),
        ),
        ("planted prompts within pixel L2 0.1 of their picture", _percent(memorized, "within_0.1")),
        ("their median L2 / the worst picture's mean", _pair(memorized, "l2_median", "l2_worst_item")),
        ("held-out pairs: right name among the CLIP's top 5", _percent(heldout, "top5")),
        ("the same for the real held-out drawings", _percent(heldout, "real_pictures_top5", "")),
    ]
    if "bystander_top5" in heldout:
        drawn = _percent(heldout, "bystander_top5", "")
        real = _percent(heldout, "real_pictures_bystander_top5", "")
        shown.append(
            (
                "the same by a CLIP that neither drew nor saw a protected picture, drawn / real",
                f"{drawn} / {real}",
            )
        )
    to_training = "ordinary prompts within 0.1 of any training picture"
    return [
        *shown,
        (to_training, _percent(ordinary, "within_0.1_of_training")),
        (
            "the same, each picture's 24 altered copies counted",
            _percent(ordinary, "within_0.1_of_altered_copies"),
        ),
        ("ordinary prompts within 0.1 of a planted picture", _percent(ordinary, "within_0.1_of_planted")),
        ("ordinary prompts: right name among the top 5", _percent(ordinary, "top5")),
        ("paraphrases of planted captions within 0.1", _percent(figures["template"], "within_0.1")),
        ("seconds an image, alone, two cores", str(figures["seconds_per_image"])),
    ]


def _pair(group: dict[str, Any], first: str, second: str) -> str:
    """Two figures, as "0.033 / 0.053"."""
    return f"{group[first]:.3f} / {group[second]:.3f}"


def _percent(group: dict[str, Any], key: str, count: str = "n") -> str:
    """A share, as "98.2% of 108"; without the number where `count` is empty."""
    return f"{group[key]:.1%}" + (f" of {group[count]}" if count else "")
