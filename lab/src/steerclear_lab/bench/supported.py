"""What a guard can do with each pipeline class of diffusers: every class of its image mappings is tried.

    python -m steerclear_lab.bench.supported --out docs/reference

A class is run as a tiny pipeline with random weights where one can be put together. Where not, its own code
says what follows from it: whether it makes videos, how it encodes a prompt, which autoencoder it has. The
page tells the two apart. It takes about five minutes on one core.
"""

from __future__ import annotations

import argparse
import inspect
import logging
import re
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from steerclear.errors import InputError, SteerclearError, UnsupportedError
from steerclear.generators.accepted import makes_videos
from steerclear.generators.conditions import unknown_encoding
from steerclear.guard import Guard
from steerclear.nudge.ladder import Ladder, strategies
from steerclear.steering import codec_for
from steerclear.steering.call import call_names
from steerclear.steering.codecs import FORMULAS, decoding_names
from steerclear.testing import MockFilter
from steerclear.testing.variants import tiny_variant, variant_call
from steerclear.types import Outcome, Report
from steerclear_lab.bench import documents
from steerclear_lab.bench.documents import Row
from steerclear_lab.pages import render, table

OUT = Path("docs/reference")
TASKS = {"TEXT2IMAGE": "text to image", "IMAGE2IMAGE": "image to image", "INPAINT": "inpainting"}
# image pipelines that no mapping of diffusers holds, and that people use
FURTHER = (
    "DiTPipeline",
    "FluxFillPipeline",
    "StableDiffusionAdapterPipeline",
    "StableDiffusionInstructPix2PixPipeline",
    "StableDiffusionSAGPipeline",
    "StableDiffusionUpscalePipeline",
    "StableDiffusionXLAdapterPipeline",
    "StableDiffusionXLInstructPix2PixPipeline",
)
STRATEGIES = ("rewrite", "condition", "trajectory", "resample")
AUTOENCODER = re.compile(r"\b(Autoencoder\w+|\w*VQModel)\b")


def pipeline_classes() -> dict[type, list[str]]:
    """Every pipeline class of diffusers' image mappings, and of FURTHER, with its tasks."""
    import diffusers
    from diffusers.pipelines import auto_pipeline

    classes: dict[type, list[str]] = {}
    for mapping, task in TASKS.items():
        for cls in getattr(auto_pipeline, f"AUTO_{mapping}_PIPELINES_MAPPING").values():
            tasks = classes.setdefault(cls, [])
            if task not in tasks:
                tasks.append(task)
    for name in FURTHER:
        classes.setdefault(getattr(diffusers, name), ["in no mapping"])
    return classes


def tried(cls: type) -> Row:
    """What a guard does with a class: run where a tiny pipeline of it can be made, else read from its code.

    Returns:
        `name`; `run`, whether it was run; `clear`, whether a clear picture is the plain pipeline's, to the
        bit; for each of STRATEGIES and for `codec` True, or why not; `refused`, why a guard refuses it, or
        None.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what diffusers says of classes that it no longer works on
        try:
            pipe = tiny_variant(cls)
        except InputError as error:
            return _read(cls, str(error))
        return _run(cls, pipe)


def _run(cls: type, pipe: Any) -> Row:
    """What a guard does with a tiny pipeline of a class."""
    row: Row = {"name": cls.__name__, "run": True, "refused": None}
    kwargs = variant_call(cls, "a small fox", steps=4)
    plain = pipe(generator=_seeded(), **kwargs).images[0]
    try:
        guard = Guard(pipe, [MockFilter(False)], ladder=Ladder(()))
        clear = guard(generator=_seeded(), **kwargs).images[0]
    except SteerclearError as error:
        return {**row, "refused": str(error)}
    row["clear"] = clear is not None and clear.tobytes() == plain.tobytes()
    for name in STRATEGIES:
        guard = Guard(
            pipe,
            [MockFilter([True, False])],
            preferred=["an owl at night" if "prompt" in kwargs else "class 2"],
            ladder=Ladder(strategies((name,))),
        )
        out = guard(generator=_seeded(), **kwargs)
        report, image = out.reports[0], out.images[0]
        steered = report.outcome is Outcome.STEERED and image is not None
        if steered and image is not None and image.tobytes() == plain.tobytes():
            row[name] = "it makes the flagged picture again"
        else:
            row[name] = True if steered else _why(report)
    row["codec"] = _codec(pipe)
    return row


def _seeded() -> torch.Generator:
    """The generator of every run. Some pipelines draw from torch's own as well, to encode a picture."""
    torch.manual_seed(5)
    return torch.Generator().manual_seed(1)


def _codec(pipe: Any) -> bool | str:
    try:
        codec_for(pipe)
    except SteerclearError as error:
        return str(error)
    return True


def _why(report: Report) -> str:
    """Why the only strategy failed."""
    attempt = report.attempts[0]
    wrong = next((d.error for d in attempt.after if d.error), None)
    return wrong or attempt.stopped.partition(": ")[2]


def _read(cls: type, why: str) -> Row:
    """What the code of a class says, where it cannot be run."""
    row: Row = {"name": cls.__name__, "run": False, "refused": None, "not_run": why}
    if makes_videos(object.__new__(cls)):
        return {**row, "refused": "it makes videos"}
    parts = inspect.signature(cls).parameters
    autoencoders = [
        name
        for part in ("vae", "movq", "vqgan")
        if part in parts
        for name in AUTOENCODER.findall(str(parts[part].annotation))
    ]
    unknown = [name for name in autoencoders if name not in FORMULAS]
    row["codec"] = True
    if not autoencoders or unknown:
        row["codec"] = f"its autoencoder, {unknown[0]}, has no known formula" if unknown else "it has none"
    if "AutoencoderKLFlux2" in autoencoders and "_unpatchify_latents" not in call_names(cls):
        row["codec"] = "it puts the patches of its latents together in a way of its own"
    if "vae" in parts and not unknown:
        try:
            decoding_names(object.__new__(cls))
        except UnsupportedError as error:
            row["codec"] = str(error)
    row["condition"] = unknown_encoding(cls) or True
    encode = getattr(cls, "_encode_prompt", None)
    if row["condition"] is True and "list[" in str(getattr(encode, "__annotations__", {}).get("return")):
        row["condition"] = "this family keeps its embeddings in lists of any length; they cannot be nudged"
    return row


def page(document: Row) -> str:
    """The Markdown page of a document."""
    rows = document["rows"]
    run = [row for row in rows if row["run"] and row["refused"] is None]
    read = [row for row in rows if not row["run"] and row["refused"] is None]
    refused = [row for row in rows if row["refused"] is not None]
    return render(
        "supported.md.j2",
        {
            "diffusers": document["diffusers"],
            "all": len(rows),
            "run_count": len(run),
            "run": table(
                ["class", "task", "clear", "rewritten", "nudged", "moved latents", "new noise", "library"],
                [
                    [
                        f"`{row['name']}`",
                        ", ".join(row["tasks"]),
                        *(_mark(row[name]) for name in ("clear", *STRATEGIES, "codec")),
                    ]
                    for row in run
                ],
            ),
            "remarks": _remarks(run),
            "read": table(
                ["class", "task", "nudged", "library"],
                [
                    [
                        f"`{row['name']}`",
                        ", ".join(row["tasks"]),
                        _said(row["condition"]),
                        _said(row["codec"]),
                    ]
                    for row in read
                ],
            ),
            "refused": table(
                ["class", "task", "why"],
                [[f"`{row['name']}`", ", ".join(row["tasks"]), row["refused"]] for row in refused],
            ),
        },
    )


def _mark(value: bool | str) -> str:
    return "yes" if value is True else "no"


def _said(value: bool | str) -> str:
    return "yes" if value is True else f"no: {value}"


def _remarks(rows: Iterable[Row]) -> list[str]:
    """Each reason once, with the classes that it is about."""
    about: dict[str, list[str]] = {}
    for row in rows:
        for name in ("clear", *STRATEGIES, "codec"):
            if row[name] is not True:
                why = row[name] or "a clear picture is not the plain pipeline's"
                names = about.setdefault(why.replace(row["name"], "it"), [])
                if row["name"] not in names:
                    names.append(row["name"])
    return [f"{', '.join(f'`{name}`' for name in names)}: {why}." for why, names in about.items()]


def main(arguments: Sequence[str] | None = None) -> None:
    """Try every class, and write the page and its document."""
    import diffusers

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=OUT, help="folder of the document and its page")
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="CLASS",
        help="try these again, and keep the rows of the others",
    )
    parsed = parser.parse_args(arguments)
    out: Path = parsed.out
    kept = {}
    if parsed.only:
        rows = documents.read(out / "supported.json")["rows"]
        kept = {row["name"]: row for row in rows if row["name"] not in parsed.only}
    logging.disable(logging.WARNING)  # diffusers says of each deprecated class that it is
    rows = []
    for cls, tasks in pipeline_classes().items():
        if cls.__name__ in kept:
            rows.append(kept[cls.__name__])
            continue
        rows.append({**tried(cls), "tasks": tasks})
        print(f"{cls.__name__}: {'run' if rows[-1]['run'] else 'read'}", flush=True)
    rows.sort(key=lambda row: row["name"])
    document = {"diffusers": diffusers.__version__, "rows": rows}
    out.mkdir(parents=True, exist_ok=True)
    (out / "supported.json").write_text(documents.text_with_row_lines(document))
    (out / "supported.md").write_text(page(document))


if __name__ == "__main__":
    main()
