"""`steerclear train-emoji`: the embedded model's whole recipe, from download to the finished folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from steerclear.cli.inputs import check_folder
from steerclear.cli.terminal import one_line_errors
from steerclear.errors import ConfigError
from steerclear.output import finite


class Preset(StrEnum):
    """The recipe's sizes and schedules."""

    CPU = "cpu"
    LONG = "long"
    GPU = "gpu"


def train_emoji(
    work: Annotated[
        Path,
        typer.Option(metavar="DIR", help="Downloads and checkpoints; a stopped run continues from them."),
    ] = Path("runs/emoji"),
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="The finished model, protected pictures and prompts.")
    ] = Path("runs/emoji/finished"),
    stage: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only this stage; may be given several times. Default: all."),
    ] = None,
    preset: Annotated[
        Preset,
        typer.Option(
            help="cpu: two hours on two cores; long: the same sizes, trained on two million draws, for a "
            "GPU; gpu: larger."
        ),
    ] = Preset.CPU,
    parts: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="A finished folder whose autoencoder, CLIP and descriptor are reused."
        ),
    ] = None,
    evaluate: Annotated[
        bool, typer.Option("--evaluate", help="Measure the finished model afterwards.")
    ] = False,
) -> None:
    """Train the embedded model from scratch.

    The stages are autoencoder, clip, descriptor, denoiser, export and library. Every stage is loaded from its
    finished checkpoint in the work folder, or trained. Three more stages run only when named: dit and flow,
    models of other architectures around the shipped autoencoder and CLIP, and bystander, a CLIP that has seen
    no protected picture and judges in the benchmarks. With --evaluate the figures are printed as JSON and
    kept, with sheets of pictures, in the work folder's `evaluation`.
    Needs: pip install "steerclear-lab[train]"

    Exit codes: 0 done; 2 bad input; 130 stopped by Ctrl-C, and the same command continues.

    \b
    steerclear train-emoji --work runs/emoji --out runs/emoji/finished
    steerclear train-emoji --stage export --evaluate
    steerclear train-emoji --stage dit --stage flow --preset long
    """
    with one_line_errors("stopped; the same command continues from the last checkpoint"):
        check_folder(work, "--work")
        check_folder(out, "--out")
        from steerclear_lab.emoji import recipe

        stages = tuple(stage or recipe.STAGES)
        try:
            recipe.run_stages(
                recipe.PRESETS[preset],
                work=work,
                out=out,
                stages=stages,
                report=lambda text: typer.echo(text, err=True),
                parts=parts,
            )
        except ModuleNotFoundError as error:
            if error.name is not None and error.name.startswith("steerclear"):
                raise
            raise ConfigError(
                f"training needs {error.name!r}, which is not installed; "
                "run: pip install 'steerclear-lab[train]'"
            ) from error
        if evaluate:
            typer.echo(json.dumps(finite(_figures(stages, work=work, out=out)), indent=2))


def _figures(stages: Sequence[str], *, work: Path, out: Path) -> dict[str, Any]:
    """What is measured of the stages that ran, by name."""
    from steerclear_lab.emoji import bystander, recipe, sibling_figures
    from steerclear_lab.emoji import evaluate as evaluation
    from steerclear_lab.emoji.siblings import SIBLINGS

    folders = (out, work / "evaluation", work)
    figures: dict[str, Any] = {}
    if not set(stages) <= set(recipe.INDEPENDENT_STAGES):
        figures |= evaluation.evaluate(*folders)
    figures |= {name: sibling_figures.evaluate(name, *folders) for name in SIBLINGS if name in stages}
    if "bystander" in stages:
        figures["bystander"] = bystander.evaluate(*folders)
    return figures
