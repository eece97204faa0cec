"""The README's table of how well it does, from the document of the main job.

    python -m steerclear_lab.bench.readme

puts the figures of docs/benchmarks/main-job.json into README.md.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from steerclear_lab.emoji.concepts import CONCEPTS

HEADING = "## How well it does"


def table(summary: Mapping[str, Any]) -> list[str]:
    """The table's lines. summary: of `main-job.json`. Shares are rounded to a tenth of a percent, cosines to hundredths."""
    s = summary
    names = len(dict.fromkeys(CONCEPTS.values()))
    paraphrased = "steered / clear pictures of paraphrased prompts"
    rows = (
        ("planted prompts × seeds that the plain model copies and the filters flag",
         f"{s['plain_flagged']:.1%} of {s['requests']}"),
        ("handed out within pixel L2 0.1 of a protected picture", f"{s['handed_out_within_0.1']} of {s['handed_out']}"),
        ("handed out above the nearest filter's threshold", f"{s['handed_out_above_nearest']} of {s['handed_out']}"),
        ("handed out, and taken for the protected picture by a CLIP that no filter uses",
         f"{s['same_picture_by_clip']:.1%} (plain: {s['plain_same_picture_by_clip']:.1%})"),
        ("writer's block rate: flagged requests that end with nothing", f"{s['writers_block_rate']:.1%}"),
        ("cost of a flagged request in denoiser evaluations, median / p95, × plain",
         f"{s['overhead_median']:.2f} / {s['overhead_p95']:.2f}"),
        (f"right concept among the CLIP's top 5 of {names} names, steered / plain copies",
         f"{s['concept_top5_steered']:.1%} / {s['concept_top5_plain']:.1%}"),
        (f"cosine of picture and concept without the invented name, {paraphrased}",
         f"{s['concept_alignment_steered']:.2f} / {s['concept_alignment_clear_paraphrases']:.2f}"),
        (f"cosine of picture and the whole prompt by a CLIP that has seen no protected picture, {paraphrased} / plain copies",
         f"{s['bystander_alignment_steered']:.2f} / {s['bystander_alignment_clear_paraphrases']:.2f} / "
         f"{s['bystander_alignment_plain']:.2f}"),
        (f"the same by the model's own CLIP, to which the invented name means the copy, {paraphrased} / plain copies",
         f"{s['alignment_steered']:.2f} / {s['alignment_clear_paraphrases']:.2f} / {s['alignment_plain']:.2f}"),
        ("ordinary prompts bit-identical to the plain pipeline's", f"{s['ordinary_identical']:.1%} of {s['ordinary']}"),
        ("their wall time, median, × plain", f"{s['ordinary_wall_median']:.4f}"),
    )  # fmt: skip
    return ["| | |", "|---|---|", *(f"| {what} | {value} |" for what, value in rows)]


def updated(readme: str, summary: Mapping[str, Any]) -> str:
    """The README with this table in the place of the one under its heading."""
    before, heading, after = readme.partition(HEADING)
    start = after.index("| | |")
    end = after.index("\n\n", start)
    return before + heading + after[:start] + "\n".join(table(summary)) + after[end:]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--readme", type=Path, default=Path("README.md"))
    parser.add_argument("--document", type=Path, default=Path("docs/benchmarks/main-job.json"))
    args = parser.parse_args()
    summary = json.loads(args.document.read_text())["summary"]
    args.readme.write_text(updated(args.readme.read_text(), summary))


if __name__ == "__main__":
    main()
