"""The comparison as a Markdown page, with its document and figures beside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from steerclear_lab import pages
from steerclear_lab.bench import documents
from steerclear_lab.bench.environment import changes, remark
from steerclear_lab.bench.rivals_tables import notes, settings, tables

CAPTIONS = {
    "pareto": "Memorized rate against alignment lost; the area of a dot is its cost",
    "histograms": "Pixel L2 to the nearest protected picture, plain and with each method; the line is 0.1",
    "costs": "What a memorized prompt costs, as multiples of the plain pipeline",
    "pca": "CLIP embeddings, the first two principal components",
    "umap": "CLIP embeddings by UMAP",
    "sheet": "Memorized prompts, a row each; grey: nothing handed out",
    "ordinary": "Ordinary prompts, a row each: they should look like the first column",
}


def page(document: Mapping[str, Any], figures: Iterable[str]) -> str:
    """The Markdown page of a document.

    Args:
        document: of the comparison.
        figures: names of the figures beside it.
    """
    chosen = settings(document)
    return pages.render(
        "rivals.md.j2",
        {
            "remark": remark(document["environment"], weights_matter=is_embedded(document)),
            "command": document["command"],
            "notes": notes(document),
            "tables": [
                {"title": table.title, "markdown": pages.table(table.header, table.rows)}
                for table in tables(document)
            ],
            "settings": pages.table(chosen.header, chosen.rows),
            "figures": [{"name": name, "caption": CAPTIONS[name]} for name in figures],
        },
    )


def stale_notes(document: Mapping[str, Any]) -> list[str]:
    """What has changed since the comparison was measured, in sentences."""
    return changes(document["environment"], weights_matter=is_embedded(document))


def is_embedded(document: Mapping[str, Any]) -> bool:
    """Whether the comparison was made on the embedded model."""
    return bool(document["suite"] == "emoji")


def write(document: Mapping[str, Any], figures: Mapping[str, bytes], out: Path) -> None:
    """Write `rivals.json`, `rivals.md` and the figures that it shows.

    Args:
        document: of the comparison, with its rows.
        figures: PNG bytes by name.
        out: a folder.
    """
    rows = document["rows"]
    kept = {key: value for key, value in document.items() if key != "rows"}
    kept |= {"figures": list(figures), "rows": rows}
    (out / "rivals.json").write_text(documents.text_with_row_lines(kept))
    for name, picture in figures.items():
        (out / f"rivals-{name}.png").write_bytes(picture)
    (out / "rivals.md").write_text(page(document, figures))
