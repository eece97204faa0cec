"""`steerclear serve`: a model behind the OpenAI images API, guarded."""

from __future__ import annotations

import logging
from typing import Annotated

import typer

from steerclear.cli.inputs import number, whole_number
from steerclear.cli.opening import model_folder, usual_guidance
from steerclear.cli.options import FilterOption, ProtectedOption, StepsOption
from steerclear.cli.recipe import EMBEDDED
from steerclear.cli.recipe_options import read_encoder, read_filters, read_ladder
from steerclear.cli.terminal import BAD_INPUT, echo, one_line_errors, print_error
from steerclear.errors import ConfigError


def serve(
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
    database: Annotated[
        str,
        typer.Option(
            "--database",
            "-d",
            metavar="URL",
            envvar="STEERCLEAR_DATABASE",
            help="Of keys and incidents: a SQLite file, or postgresql+psycopg://USER@HOST/NAME.",
        ),
    ] = "",
    keep_prompts: Annotated[
        str,
        typer.Option(metavar="HOW", help="What incidents keep of prompts: text, or hash for a hash alone."),
    ] = "text",
    keep_thumbnails: Annotated[
        float,
        typer.Option(
            parser=number,
            metavar="DAYS",
            help="Keep a small picture of what was flagged, encrypted, for so many days; needs a key, see "
            "`steerclear audit`. None is kept by default.",
        ),
    ] = 0.0,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Serve without keys; only this machine can reach the server.")
    ] = False,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Where to listen.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(parser=whole_number, metavar="N", help="Where to listen; 0 for a free port.")
    ] = 8000,
    device: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="cpu, cuda, cuda:1, …; several times: workers take turns."),
    ] = None,
    workers: Annotated[
        int, typer.Option(parser=whole_number, metavar="N", help="Processes that each hold the model.")
    ] = 1,
    batch: Annotated[
        int,
        typer.Option(
            parser=whole_number,
            metavar="N",
            help="Most pictures that requests with equal settings make in one call. With 1 each request is "
            "made alone, and its pictures are the same to the bit whatever else is asked for.",
        ),
    ] = 1,
    queue: Annotated[
        int,
        typer.Option(parser=whole_number, metavar="N", help="Most requests that wait; others get 429."),
    ] = 64,
    time_limit: Annotated[
        float, typer.Option(parser=number, metavar="S", help="Most seconds of a request, waiting included.")
    ] = 300.0,
    drain: Annotated[
        float,
        typer.Option(parser=number, metavar="S", help="Seconds that requests may take after SIGTERM."),
    ] = 60.0,
    steps: StepsOption = 25,
    guidance: Annotated[
        float | None,
        typer.Option(
            parser=number,
            metavar="X",
            help="Guidance scale; default 7.5, or what the model's own recipe says.",
        ),
    ] = None,
    filter_names: FilterOption = None,
    ladder: Annotated[
        str | None, typer.Option(metavar="A,B,C", help="Strategies, cheapest first, instead of the default.")
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="In whose space strategies steer; default: the library's first."),
    ] = None,
    budget: Annotated[
        float,
        typer.Option(
            parser=number,
            metavar="X",
            help="Most that one picture may cost, as a multiple of the plain cost.",
        ),
    ] = 8.0,
    dtype: Annotated[
        str, typer.Option(metavar="NAME", help="Of the weights: float32, float16, bfloat16, or auto.")
    ] = "",
    variant: Annotated[
        str, typer.Option(metavar="NAME", help="Which files of the model folder, such as fp16.")
    ] = "",
    most_images: Annotated[
        int, typer.Option(parser=whole_number, metavar="N", help="Most pictures of a request.")
    ] = 10,
    most_steps: Annotated[
        int, typer.Option(parser=whole_number, metavar="N", help="Most denoising steps of a request.")
    ] = 200,
    most_pixels: Annotated[
        int, typer.Option(parser=whole_number, metavar="N", help="Most pixels of a picture to make.")
    ] = 2**22,
    most_upload_pixels: Annotated[
        int,
        typer.Option(parser=whole_number, metavar="N", help="Most pixels of a request's pictures together."),
    ] = 2**24,
    most_bytes: Annotated[
        int, typer.Option(parser=whole_number, metavar="N", help="Most bytes of a request.")
    ] = 2**25,
    cors: Annotated[
        list[str] | None,
        typer.Option(metavar="ORIGIN", help="A site whose pages may call the server; none by default."),
    ] = None,
    log_prompts: Annotated[
        bool,
        typer.Option("--log-prompts", help="Write prompts into the log; they are kept out of it by default."),
    ] = False,
) -> None:
    """Serve pictures in the OpenAI images schema, none of which resembles anything protected.

    Needs `pip install steerclear[serve]`. Keys are made by `steerclear keys add`. SIGTERM lets requests end
    that were taken.

    Exit codes: 0 stopped; 2 bad input, or a model that cannot be loaded.

    \b
    steerclear serve --insecure
    steerclear serve --model path/to/stable-diffusion --library protected --database records.db --device cuda
    """
    with one_line_errors():
        try:
            from steerclear.serve.run import serve as run
            from steerclear.serve.settings import ServeSettings
        except ImportError as error:
            raise ConfigError(
                f"the server needs {error.name}; run: pip install 'steerclear[serve]'"
            ) from error
        from steerclear import embedded

        settings = ServeSettings(
            model=str(model_folder(model) or model),
            library=str(embedded.LIBRARY_FOLDER) if library == EMBEDDED else library,
            filters=read_filters(filter_names or ()),
            ladder=read_ladder(ladder),
            encoder=read_encoder(encoder),
            budget=budget,
            dtype=dtype,
            variant=variant,
            steps=steps,
            guidance=usual_guidance(model) if guidance is None else guidance,
            devices=tuple(device or ("cpu",)),
            workers=workers,
            batch=batch,
            host=host,
            port=port,
            database=database,
            keep_prompts=keep_prompts,
            keep_thumbnails=keep_thumbnails,
            insecure=insecure,
            queue=queue,
            time_limit=time_limit,
            drain=drain,
            most_images=most_images,
            most_steps=most_steps,
            most_pixels=most_pixels,
            most_upload_pixels=most_upload_pixels,
            most_bytes=most_bytes,
            cors=tuple(cors or ()),
            log_prompts=log_prompts,
        )
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")

        def listening(address: str) -> None:
            echo(f"listening on {address}; the model is being loaded, see {address}/readyz", err=True)
            if insecure:
                echo("insecure: no key is asked for; only this machine can reach the server", err=True)
            if batch > 1:
                echo(
                    f"batches of up to {batch} pictures: {address}/readyz says whether they are the same as "
                    "alone, to the bit",
                    err=True,
                )

        reason = run(settings, listening)
        if reason is not None:
            print_error(reason)
            raise typer.Exit(BAD_INPUT)
