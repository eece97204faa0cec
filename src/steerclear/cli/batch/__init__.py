"""`steerclear batch`: a list of prompts in; pictures and a table out, on one machine or a Ray cluster."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from steerclear.cli.batch.outputs import Outputs
from steerclear.cli.batch.parts import Done, Maker, Plan
from steerclear.cli.batch.rows import read_rows
from steerclear.cli.inputs import number, whole_number
from steerclear.cli.opening import fingerprint_of, usual_guidance
from steerclear.cli.options import FilterOption, JsonOption, ProtectedOption, StepsOption
from steerclear.cli.recipe import EMBEDDED, Recipe
from steerclear.cli.recipe_checks import check_recipe
from steerclear.cli.recipe_options import read_encoder, read_filters, read_ladder
from steerclear.cli.terminal import FLAGGED, OK, echo, one_line_errors, print_json, progress
from steerclear.errors import InputError

__all__ = ["batch"]

MOST_ACTORS = 10_000


def batch(
    prompts: Annotated[
        str,
        typer.Argument(
            metavar="PROMPTS",
            help="One prompt a line (.txt), or rows with `prompt` and, if wanted, `seed` (.jsonl, .parquet).",
        ),
    ],
    out: Annotated[str, typer.Option(metavar="DIR", help="A folder, or an address such as s3://bucket/run.")],
    ray: Annotated[
        int,
        typer.Option(
            "--ray", parser=whole_number, metavar="N", help="Make them with N actors of a Ray cluster."
        ),
    ] = 0,
    part: Annotated[
        int,
        typer.Option(
            parser=whole_number,
            metavar="N",
            help="Rows that are recorded together: so many at most are made again after a crash.",
        ),
    ] = 64,
    model: Annotated[
        str,
        typer.Option("--model", metavar="FOLDER_OR_ID", help="A diffusers pipeline, as in `generate`."),
    ] = EMBEDDED,
    library: ProtectedOption = EMBEDDED,
    filter_names: FilterOption = None,
    seed: Annotated[int, typer.Option(parser=whole_number, metavar="N", help="Of rows that name none.")] = 0,
    steps: StepsOption = 25,
    guidance: Annotated[
        float | None,
        typer.Option(
            parser=number,
            metavar="X",
            help="Guidance scale; default 7.5, or what the model's own recipe says.",
        ),
    ] = None,
    negative_prompt: Annotated[
        str, typer.Option("--negative-prompt", metavar="TEXT", help="What no picture should show.")
    ] = "",
    height: Annotated[
        int | None,
        typer.Option(parser=whole_number, metavar="N", help="Height in pixels; default: the model's own."),
    ] = None,
    width: Annotated[
        int | None,
        typer.Option(parser=whole_number, metavar="N", help="Width in pixels; default: the model's own."),
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(
            parser=number,
            metavar="X",
            help="Most that one picture may cost, as a multiple of the plain cost; default 8.",
        ),
    ] = None,
    ladder: Annotated[
        str | None, typer.Option(metavar="A,B,C", help="Strategies, cheapest first, instead of the default.")
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="In whose space strategies steer; default: the library's first."),
    ] = None,
    dtype: Annotated[
        str, typer.Option(metavar="NAME", help="Of the weights: float32, float16, bfloat16, or auto.")
    ] = "",
    variant: Annotated[
        str, typer.Option(metavar="NAME", help="Which files of the model folder, such as fp16.")
    ] = "",
    device: Annotated[str, typer.Option(metavar="NAME", help="cpu, cuda or mps; of every actor.")] = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Make a guarded picture of every row of a list.

    Writes DIR/pictures/ROW.png (rows are counted from 00000000) and DIR/results/*.parquet: one row for each
    row of the list, with its outcome, the picture's address and the fields of a report. Only a picture that
    a result names has been handed out.

    The same command again goes on where it was stopped or killed. Each row has one result then, and one
    picture or none. With --ray it joins the cluster that RAY_ADDRESS names, or starts one on this machine.
    The actors need the model and the library under the same names; they draw what one process draws.

    Exit codes: 0 all handed out; 3 something was withheld; 2 bad input; 130 stopped by Ctrl-C.

    \b
    steerclear batch prompts.txt --out run
    steerclear batch prompts.txt --out of-seed-7 --seed 7 --part 1
    steerclear batch prompts.parquet --out s3://bucket/run --library s3://bucket/library --ray 8 --device cuda
    """
    with one_line_errors("stopped; what is recorded is kept, and the same command goes on"):
        for option, value, most in (("--part", part, 100_000), ("--ray", ray, MOST_ACTORS)):
            least = 1 if option == "--part" else 0
            if not least <= value <= most:
                raise InputError(f"{option} is {value}; give a whole number from {least} to {most}")
        recipe = Recipe(
            model=model if model == EMBEDDED or not Path(model).exists() else str(Path(model).resolve()),
            library=library if library == EMBEDDED or "://" in library else str(Path(library).resolve()),
            seed=seed,
            steps=steps,
            guidance=usual_guidance(model) if guidance is None else guidance,
            device=device,
            budget=budget,
            ladder=read_ladder(ladder),
            filters=read_filters(filter_names or ()),
            encoder=read_encoder(encoder),
            negative_prompt=negative_prompt,
            height=height,
            width=width,
            dtype=dtype,
            variant=variant,
        )
        check_recipe(recipe)
        rows = read_rows(Path(prompts), seed)
        outputs = Outputs.open(out)
        plan = Plan(recipe, rows=tuple(rows), part=part, model_fingerprint=fingerprint_of(model))
        before = plan.begin(outputs)
        waiting = [i for i in range(plan.parts) if i not in before]
        with progress("generating", len(rows)) as advance:
            finished = len(rows) - sum(len(plan.rows_of(i)) for i in waiting)
            advance(finished, len(rows))
            for done in _made(plan, outputs=outputs, waiting=waiting, actors=ray):
                finished += done.rows
                advance(finished, len(rows))
        counts = outputs.counts()
    if as_json:
        print_json({"rows": len(rows), "outcomes": counts, "results": outputs.address("results")})
    else:
        echo(", ".join(f"{outcome} {count}" for outcome, count in sorted(counts.items())))
        echo(f"results in {outputs.address('results')}")
    raise typer.Exit(FLAGGED if counts.get("withheld") else OK)


def _made(plan: Plan, outputs: Outputs, waiting: list[int], actors: int) -> Iterator[Done]:
    """Make the parts that are not there yet."""
    if not waiting:
        return
    if actors:
        from steerclear.cli.batch.on_ray import make_on_ray

        yield from make_on_ray(plan, outputs=outputs, waiting=waiting, actors=actors)
        return
    maker = Maker(plan, outputs)
    for i in waiting:
        yield maker.make(i)
