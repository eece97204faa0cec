"""`steerclear generate`: prompts and seeds in; pictures, a report and a sheet out."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from steerclear.cli.inputs import check_folder, number, read_prompts, read_seeds, whole_number
from steerclear.cli.opening import load_guard, usual_guidance
from steerclear.cli.options import DownloadOption, FilterOption, ProtectedOption, StepsOption, TrustOption
from steerclear.cli.recipe import (
    EMBEDDED,
    PromptAndSeed,
    Recipe,
)
from steerclear.cli.recipe_checks import check_recipe
from steerclear.cli.recipe_options import read_encoder, read_filters, read_ladder, read_loras, read_preferred
from steerclear.cli.terminal import FLAGGED, OK, echo, one_line_errors, progress, uninterrupted
from steerclear.errors import InputError
from steerclear.output import SHEET, ReportFile, report_line, save_png, staged_png, unwritable
from steerclear.provenance import Credentials
from steerclear.sheet import SheetRow, compare_sheet

if TYPE_CHECKING:
    from PIL import Image

    from steerclear.guard import Guard
    from steerclear.types import GuardOutput, Report

MOST_TOGETHER = 1000
MOST_ROWS = 200  # of a comparison sheet; few programs can open a longer one


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
        typer.Option(
            "--model",
            metavar="FOLDER_OR_ID",
            help="A diffusers pipeline: a folder, a hub id or a single .safetensors file; `embedded` is the "
            "one that comes with steerclear.",
        ),
    ] = EMBEDDED,
    library: ProtectedOption = EMBEDDED,
    filter_names: FilterOption = None,
    seeds: Annotated[
        str,
        typer.Option(
            metavar="LIST", help="0-3, or 0,5,7, or both mixed; each seed gives one picture per prompt."
        ),
    ] = "0",
    steps: StepsOption = 25,
    guidance: Annotated[
        float | None,
        typer.Option(
            parser=number,
            metavar="X",
            help="Guidance scale; default 7.5, or what the model's own recipe says: 4 for the embedded one.",
        ),
    ] = None,
    prefer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="IMAGE_OR_TEXT", help="What a nudged picture should resemble; may be given several times."
        ),
    ] = None,
    alternatives: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Prompts of what the model draws well, one a line, such as a service's own log: those near "
            "a flagged prompt are drawn instead. Default: what calibration kept for this model.",
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
        str | None,
        typer.Option(
            metavar="A,B,C",
            help="Strategies, cheapest first, instead of the default; names, or module:object.",
        ),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The encoder for strategies that steer by one; default: the library's first. "
            "Required for a library that was built with an encoder that does not ship inside.",
        ),
    ] = None,
    trust: TrustOption = False,
    allow_download: DownloadOption = False,
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
    images_per_prompt: Annotated[
        int,
        typer.Option(
            parser=whole_number, metavar="N", help="Pictures for each prompt and seed, made in one call."
        ),
    ] = 1,
    batch: Annotated[
        int,
        typer.Option(parser=whole_number, metavar="N", help="Prompts and seeds that go into one call."),
    ] = 1,
    scheduler: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="A scheduler of diffusers, such as EulerDiscreteScheduler; default: the model's.",
        ),
    ] = "",
    lora: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE[:SCALE]", help="A LoRA to load into the model; may be given several times."
        ),
    ] = None,
    dtype: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="Of the weights: float32, float16, bfloat16, or auto for as they are stored."
        ),
    ] = "",
    variant: Annotated[
        str, typer.Option(metavar="NAME", help="Which files of the model folder, such as fp16.")
    ] = "",
    config: Annotated[
        str,
        typer.Option(
            metavar="FOLDER_OR_ID", help="Of a model in a single file: where its model_index.json lies."
        ),
    ] = "",
    offload: Annotated[
        str,
        typer.Option(
            metavar="HOW", help="model or sequential: keep on the device only what runs, to save memory."
        ),
    ] = "",
    compile_model: Annotated[
        bool, typer.Option("--compile", help="Compile the denoiser, which pays for many pictures.")
    ] = False,
    device: Annotated[str, typer.Option(metavar="NAME", help="cpu, cuda or mps.")] = "cpu",
    sign: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            "--sign",
            metavar="CERT KEY",
            help="Sign every picture with C2PA content credentials: a chain of certificates and its key, "
            "both in PEM.",
        ),
    ] = None,
) -> None:
    """Generate pictures that resemble nothing protected.

    Writes DIR/{prompt}-{seed}.png for every picture handed out (prompts are counted from 0000), or
    DIR/{prompt}-{seed}-{number}.png where there are several per prompt and seed, and one line per picture in
    DIR/report.jsonl. Each PNG carries its recipe: see `steerclear replay`. It also says, in its XMP, that a
    model made it; with --sign that is signed: see `steerclear verify`. The pixels are the same either way.

    Exit codes: 0 all handed out; 3 something was withheld; 2 bad input; 130 stopped by Ctrl-C, with
    everything finished by then kept.

    \b
    steerclear generate "a cat, noto style"
    steerclear generate "the acme fox mascot, noto style" --seeds 0-1 --compare --out out/acme
    steerclear generate --prompts prompts.txt --seeds 0,5 --json
    steerclear generate "the acme fox mascot, noto style" --prefer "a fox, twemoji style" --budget 4
    steerclear generate --prompts prompts.txt --alternatives log.txt
    steerclear generate "the acme fox mascot, noto style" --ladder condition,rewrite --filter hash
    steerclear generate "a fox" --model model --library protected --steps 10 --guidance 3
    """
    with one_line_errors("stopped; what is finished is kept"):
        for option, count in (("--images-per-prompt", images_per_prompt), ("--batch", batch)):
            if not 1 <= count <= MOST_TOGETHER:
                raise InputError(f"{option} is {count}; give a whole number from 1 to {MOST_TOGETHER}")
        prompts_and_seeds = product(enumerate(read_prompts(prompts or (), prompts_file)), read_seeds(seeds))
        requests = [
            _request(number, prompt=prompt, seed=seed, image=image if images_per_prompt > 1 else None)
            for (number, prompt), seed in prompts_and_seeds
            for image in range(images_per_prompt)
        ]
        check_folder(out)
        credentials = None if sign is None else Credentials.load(*sign)
        if compare and len(requests) > MOST_ROWS:
            raise InputError(
                f"--compare draws at most {MOST_ROWS} rows, not {len(requests)}; "
                "ask for fewer prompts or seeds"
            )
        recipe = Recipe(
            model=model,
            library=library,
            steps=steps,
            guidance=usual_guidance(model) if guidance is None else guidance,
            device=device,
            budget=budget,
            ladder=read_ladder(ladder),
            filters=read_filters(filter_names or ()),
            encoder=read_encoder(encoder),
            prefer=read_preferred(prefer or ()),
            alternatives="" if alternatives is None else str(alternatives),
            negative_prompt=negative_prompt,
            height=height,
            width=width,
            scheduler=scheduler,
            loras=read_loras(lora or ()),
            dtype=dtype,
            variant=variant,
            config=config,
            offload=offload,
            compile=compile_model,
        )
        check_recipe(recipe)
        guard, recipe = load_guard(recipe, trust=trust, allow_download=allow_download)
        together = batch * images_per_prompt
        code = _make_all(
            guard,
            recipe,
            calls=[requests[i : i + together] for i in range(0, len(requests), together)],
            out=out,
            print_line=_print_json if as_json else _print_summary,
            compare=compare,
            credentials=credentials,
        )
    raise typer.Exit(code)


def _request(number: int, prompt: str, seed: int, image: int | None) -> tuple[str, PromptAndSeed]:
    """The file name of a picture, and its prompt and seed; image: its number among those of one prompt and
    seed.
    """
    if image is None:
        return f"{number:04d}-{seed}.png", PromptAndSeed(prompt, seed)
    from steerclear.steering.seeds import derive

    own_seed = seed if image == 0 else derive(seed, "image", image)
    return f"{number:04d}-{seed}-{image}.png", PromptAndSeed(prompt, own_seed)


def make(guard: Guard, recipe: Recipe) -> GuardOutput:
    """Make the guarded pictures of one call, which `generate` and `replay` share, so that they give the same.

    Args:
        guard: from `load_guard`.
        recipe: of any picture of the call.

    Returns:
        What was made; the recipe's own picture is `images[recipe.image]`.
    """
    output: GuardOutput = guard(**_call_arguments(recipe))
    return output


def _call_arguments(recipe: Recipe) -> dict[str, Any]:
    """The arguments of the call, for a guard or its pipeline."""
    from steerclear.steering.seeds import generators

    asked = recipe.together or (PromptAndSeed(recipe.prompt, recipe.seed),)
    drawing = generators(picture.seed for picture in asked)
    arguments = {
        "prompt": [picture.prompt for picture in asked] if recipe.together else recipe.prompt,
        "generator": drawing if recipe.together else drawing[0],
        "num_inference_steps": recipe.steps,
        "guidance_scale": recipe.guidance,
    }
    if recipe.negative_prompt:
        negatives = [recipe.negative_prompt] * len(asked)
        arguments["negative_prompt"] = negatives if recipe.together else recipe.negative_prompt
    sides = {"height": recipe.height, "width": recipe.width}
    return {**arguments, **{side: length for side, length in sides.items() if length is not None}}


def _make_all(
    guard: Guard,
    recipe: Recipe,
    *,
    calls: Sequence[Sequence[tuple[str, PromptAndSeed]]],
    out: Path,
    print_line: Callable[[dict[str, Any], Path], None],
    compare: bool,
    credentials: Credentials | None,
) -> int:
    """Make, save and report the pictures of one call after the other. Returns the exit code."""
    code, rows = OK, list[SheetRow]()
    with ReportFile(out) as report_file, progress("generating", sum(map(len, calls))) as advance:
        try:
            for call in calls:
                together = tuple(asked for _, asked in call) if len(call) > 1 else ()
                recipes = [
                    replace(recipe, prompt=asked.prompt, seed=asked.seed, together=together, image=image)
                    for image, (_, asked) in enumerate(call)
                ]
                output = make(guard, recipes[0])
                pictures = zip(call, recipes, output.images, output.reports, strict=True)
                for (name, _), picture_recipe, image, report in pictures:
                    if guard.library is not None and report.library_version != recipe.library_version:
                        recipe = replace(  # it has changed since the last picture
                            recipe,
                            library_version=report.library_version,
                            library_fingerprint=guard.library.fingerprint()[:16],
                        )
                    picture_recipe = replace(
                        picture_recipe,
                        library_version=recipe.library_version,
                        library_fingerprint=recipe.library_fingerprint,
                    )
                    with uninterrupted():
                        line = _save(
                            out / name,
                            image=image,
                            report=report,
                            recipe=picture_recipe,
                            credentials=credentials,
                            report_file=report_file,
                        )
                        print_line(line, out)
                    code = FLAGGED if image is None else code
                    if compare:
                        rows.append(_sheet_row(guard, recipe=picture_recipe, image=image, report=report))
                    advance()
        finally:
            if rows:
                save_png(out / SHEET, compare_sheet(rows))
    return code


def _save(
    path: Path,
    *,
    image: Image.Image | None,
    report: Report,
    recipe: Recipe,
    credentials: Credentials | None,
    report_file: ReportFile,
) -> dict[str, Any]:
    """Write the picture's line, then the picture with its recipe: none lies there without its own line.

    Returns:
        The line.
    """
    line = report_line(report, None if image is None else path.name)
    with ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if image is not None:
                made_by = replace(recipe, outcome=str(report.outcome)).to_dict()
                stack.enter_context(staged_png(path, image=image, recipe=made_by, credentials=credentials))
            # an earlier run's picture would look as if it had been handed out now
            path.unlink(missing_ok=True)
        except OSError as error:
            raise unwritable(path, error) from error
        report_file.write(line)
    return line


def _sheet_row(guard: Guard, recipe: Recipe, image: Image.Image | None, report: Report) -> SheetRow:
    """A row of the sheet; a clear picture is the plain pipeline's own, else the plain one is made now."""
    is_clear = image is not None and not report.attempts
    plain = image if is_clear else guard.pipe(**_call_arguments(recipe)).images[recipe.image]
    assert plain is not None
    matches = (detection.matched for detection in report.detections if detection.matched)
    nearest = report.matched or next(matches, None)
    return SheetRow(
        report=report,
        protected=_thumbnail(guard, nearest),
        protected_id=nearest,
        plain=plain,
        handed_out=image,
    )


def _thumbnail(guard: Guard, item: str | None) -> Image.Image | None:
    from steerclear.pixels import to_image

    protected = guard.protected
    if item is None or protected is None or item not in protected.pictures:
        return None
    return to_image(protected.pictures[item])


def _print_json(line: dict[str, Any], out: Path) -> None:
    typer.echo(json.dumps(line))


def _print_summary(line: dict[str, Any], out: Path) -> None:
    before, after = (
        f"{score:.2f}" if score is not None else "-" for score in (line["before"], line["after"])
    )
    ending = out / line["file"] if line["file"] else line["reason"]
    cost = f"{line['overhead']:.1f}× plain"
    echo(f"{line['outcome']:<8}  {line['matched'] or '-':<16}  {before} → {after}  {cost:>11}  {ending}")
