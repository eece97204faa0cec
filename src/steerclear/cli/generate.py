"""`steerclear generate`: prompts and seeds in; pictures, a report and a sheet out."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from steerclear.cli import recipe as recipes
from steerclear.cli.inputs import (
    FLAGGED,
    OK,
    check_folder,
    number,
    one_line_errors,
    progress,
    read_prompts,
    read_seeds,
    uninterrupted,
    whole,
)
from steerclear.cli.recipe import EMBEDDED, Recipe
from steerclear.errors import InputError
from steerclear.output import SHEET, ReportFile, report_line, save_png, unwritable
from steerclear.sheet import SheetRow, compare_sheet

if TYPE_CHECKING:
    from PIL import Image

    from steerclear.guard import Guard
    from steerclear.types import Report

MOST_ROWS = 200  # of a sheet; few programs can open a longer one


def generate(
    prompts: Annotated[
        list[str] | None, typer.Argument(metavar="PROMPT", help="What the pictures should show.")
    ] = None,
    prompts_file: Annotated[
        Path | None,
        typer.Option("--prompts", metavar="FILE", help="More prompts, one a line; blank lines are skipped."),
    ] = None,
    model: Annotated[
        str,
        typer.Option("--model", metavar="FOLDER_OR_ID", help="A diffusers pipeline, or the embedded model."),
    ] = EMBEDDED,
    library: Annotated[
        str,
        typer.Option(
            "--library", "-l", metavar="DIR", help="The protected pictures, or the embedded library."
        ),
    ] = EMBEDDED,
    seeds: Annotated[
        str,
        typer.Option(
            metavar="LIST", help="0-3, or 0,5,7, or both mixed; each seed gives one picture per prompt."
        ),
    ] = "0",
    steps: Annotated[int, typer.Option(parser=whole, metavar="N", help="Denoising steps.")] = 25,
    guidance: Annotated[
        float | None,
        typer.Option(
            parser=number,
            metavar="X",
            help="Guidance scale; default 7.5, or what the model's own recipe says: the embedded one's is 4.",
        ),
    ] = None,
    prefer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="IMAGE_OR_TEXT", help="What a nudged picture should resemble; may be given several times."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where pictures and report go.")] = Path("out"),
    compare: Annotated[
        bool,
        typer.Option(
            "--compare",
            help="Also draw compare.png, for reviewers: it shows the protected pictures and the copies.",
        ),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the report's lines instead of a summary.")
    ] = False,
    budget: Annotated[
        float | None,
        typer.Option(
            parser=number,
            metavar="X",
            help="Most that nudging one picture may cost, as a multiple of the plain cost; default 8.",
        ),
    ] = None,
    ladder: Annotated[
        str | None, typer.Option(metavar="A,B,C", help="Strategies, cheapest first, instead of the default.")
    ] = None,
    device: Annotated[str, typer.Option(metavar="NAME", help="cpu, cuda or mps.")] = "cpu",
) -> None:
    """Generate pictures that resemble nothing protected.

    Writes DIR/{prompt}-{seed}.png for every picture handed out (prompts are counted from 0000), and one line
    per prompt and seed in DIR/report.jsonl. Each PNG carries its recipe: see `steerclear replay`.

    Exit codes: 0 all handed out; 3 something was withheld; 2 bad input; 130 stopped by Ctrl-C, with everything
    finished by then kept.

    \b
    steerclear generate "a cat, noto style"
    steerclear generate "the acme fox mascot, noto style" --seeds 0-1 --compare --out out/acme
    steerclear generate --prompts prompts.txt --seeds 0,5 --json
    steerclear generate "the acme fox mascot, noto style" --prefer "a fox, twemoji style" --ladder condition,rewrite --budget 4
    steerclear generate "a fox" --model model --library protected --steps 10 --guidance 3
    """
    with one_line_errors():
        wanted = list(product(enumerate(read_prompts(prompts or (), prompts_file)), read_seeds(seeds)))
        check_folder(out)
        if compare and len(wanted) > MOST_ROWS:
            raise InputError(
                f"--compare draws at most {MOST_ROWS} rows, not {len(wanted)}; ask for fewer prompts or seeds"
            )
        if guidance is None:
            guidance = recipes.usual_guidance(model)
        asked = Recipe(
            model=model, library=library, steps=steps, guidance=guidance, device=device, budget=budget,
            ladder=recipes.ladder_names(ladder), prefer=recipes.read_preferred(prefer or ()),
        )  # fmt: skip
        guard, recipe = recipes.load(recipes.check(asked))
        say = _say_json if as_json else _say_line
        code = _make_all(guard, recipe, wanted, out, say, compare)
    raise typer.Exit(code)


def make(guard: Guard, recipe: Recipe) -> tuple[Image.Image | None, Report]:
    """One guarded picture: the call that `generate` and `replay` share, so that they give the same."""
    made = guard(recipe.prompt, **_call(recipe))
    return made.images[0], made.reports[0]


def _call(recipe: Recipe) -> dict[str, Any]:
    import torch

    generator = torch.Generator().manual_seed(recipe.seed)
    return {"num_inference_steps": recipe.steps, "guidance_scale": recipe.guidance, "generator": generator}


def _make_all(
    guard: Guard,
    recipe: Recipe,
    wanted: Sequence[tuple[tuple[int, str], int]],
    out: Path,
    say: Callable[[dict[str, Any], Path], None],
    compare: bool,
) -> int:
    """Make, keep and tell of one picture after the other. Returns the exit code."""
    code, rows = OK, list[SheetRow]()
    with ReportFile(out) as report_file, progress("generating", len(wanted)) as advance:
        try:
            for (index, prompt), seed in wanted:
                one = replace(recipe, prompt=prompt, seed=seed)
                image, report = make(guard, one)
                with uninterrupted():
                    line = _keep(out, f"{index:04d}-{seed}.png", image, report, one)
                    report_file.write(line)
                    say(line, out)
                code = FLAGGED if image is None else code
                if compare:
                    rows.append(_row(guard, one, image, report))
                advance()
        finally:
            if rows:
                save_png(out / SHEET, compare_sheet(rows))
    return code


def _keep(out: Path, name: str, image: Image.Image | None, report: Report, recipe: Recipe) -> dict[str, Any]:
    path = out / name
    try:
        out.mkdir(parents=True, exist_ok=True)
        if image is None:
            path.unlink(
                missing_ok=True
            )  # an earlier run's picture would look as if it had been handed out now
    except OSError as error:
        raise unwritable(path, error) from error
    if image is not None:
        save_png(path, image, replace(recipe, outcome=str(report.outcome)).to_dict())
    return report_line(report, None if image is None else name)


def _row(guard: Guard, recipe: Recipe, image: Image.Image | None, report: Report) -> SheetRow:
    """A row of the sheet. What was clear is the plain pipeline's picture already; anything else is made plainly."""
    plain = (
        image
        if image is not None and not report.attempts
        else guard.pipe(prompt=recipe.prompt, **_call(recipe)).images[0]
    )
    assert plain is not None
    nearest = report.matched or next((d.matched for d in report.detections if d.matched), None)
    return SheetRow(report, _thumbnail(guard, nearest), nearest, plain, image)


def _thumbnail(guard: Guard, item: str | None) -> Image.Image | None:
    from steerclear.pixels import to_image

    protected = guard.protected
    if item is None or protected is None or item not in protected.pictures:
        return None
    return to_image(protected.pictures[item])


def _say_json(line: dict[str, Any], out: Path) -> None:
    typer.echo(json.dumps(line))


def _say_line(line: dict[str, Any], out: Path) -> None:
    before, after = (
        f"{score:.2f}" if score is not None else "-" for score in (line["before"], line["after"])
    )
    ending = out / line["file"] if line["file"] else line["reason"]
    cost = f"{line['overhead']:.1f}× plain"
    typer.echo(
        f"{line['outcome']:<8}  {line['matched'] or '-':<16}  {before} → {after}  {cost:>11}  {ending}"
    )
