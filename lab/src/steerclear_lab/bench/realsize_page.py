"""The Markdown page of `realsize`."""

from __future__ import annotations

import statistics

from steerclear_lab.bench.documents import Row
from steerclear_lab.pages import render, table

GIB = 1024**3
TARGETS = {"hook": 1.01, "frozen": 1.05, "through": 1.6}
TARGET_NAMES = {
    "hook": "hook per step",
    "frozen": "peak memory, frozen",
    "through": "peak memory, through the denoiser",
}


def page(rows: list[Row]) -> str:
    """The Markdown page, with every target that is met or missed. Weights and the source of pictures decide
    no figure.

    Args:
        rows: as `realsize.json` keeps them.
    """
    threads = sorted({f"{row['threads']}" for row in rows if row["device"] == "CPU"})
    return render(
        "realsize.md.j2",
        {
            "commands": [row["command"] for row in rows],
            "costs": _costs(rows),
            "previews": _previews(rows),
            "threads": ", ".join(threads),
            "targets": targets(rows),
        },
    )


def _costs(rows: list[Row]) -> str:
    """Time and peak memory of each configuration."""
    header = [
        "model",
        "size",
        "step, s (range)",
        "hook's own",
        "watched / plain, paired",
        "frozen nudge / step",
        "peak, plain",
        "frozen",
        "through",
    ]
    cells = []
    for row in rows:
        time = row["time"]
        seconds = time["plain_s"]
        step = statistics.median(seconds)
        cells.append(
            [
                row["config"],
                f"{row['side']} px, {row['stored']} on {row['device']}",
                f"{step:.3g} ({min(seconds):.3g}–{max(seconds):.3g})",
                f"{time['own_ratio']:.5f} ×",
                f"{time['paired_ratio']:.3f} × of {len(seconds)}",
                f"{time['frozen_s'] / step:.4f}",
                f"{row['plain']['peak_bytes'] / GIB:.2f} GiB",
                f"{peak_ratio(row, 'frozen'):.3f} ×",
                f"{peak_ratio(row, 'through'):.3f} ×",
            ]
        )
    return table(header, cells)


def _previews(rows: list[Row]) -> str:
    """What a preview costs beside a full decode."""
    cells = []
    for row in rows:
        time = row["time"]
        decode, preview = time["decode_s"], time["preview_s"]
        share = preview / statistics.median(time["plain_s"])
        cells.append(
            [configuration(row), f"{decode:.3g}", f"{preview:.5f}", f"{decode / preview:.0f}", f"{share:.1g}"]
        )
    return table(["model", "full decode, s", "preview, s", "decode / preview", "preview / step"], cells)


def configuration(row: Row) -> str:
    """An architecture and the device it ran on."""
    return f"{row['config']} on {row['device'].removeprefix('NVIDIA ').split()[0]}"


def targets(rows: list[Row]) -> str:
    """Every target, with the configurations that meet and miss it, as a Markdown table."""
    measured = {
        "hook": [(configuration(row), row["time"]["own_ratio"]) for row in rows],
        "frozen": [(configuration(row), peak_ratio(row, "frozen")) for row in rows],
        "through": [(configuration(row), peak_ratio(row, "through")) for row in rows],
    }
    cells = []
    for key, limit in TARGETS.items():
        met = ", ".join(name for name, ratio in measured[key] if ratio <= limit)
        missed = ", ".join(f"{name} ({ratio:.3f})" for name, ratio in measured[key] if ratio > limit)
        cells.append([TARGET_NAMES[key], f"{limit} ×", met or "–", missed or "–"])
    return table(["target", "at most", "met", "missed"], cells)


def peak_ratio(row: Row, kind: str) -> float:
    """Peak memory of a way of steering ("frozen" or "through") over the plain run's."""
    return float(row[kind]["peak_bytes"] / row["plain"]["peak_bytes"])
