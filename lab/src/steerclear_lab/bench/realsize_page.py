"""The Markdown page of `realsize`."""

from __future__ import annotations

import statistics
from typing import Any

GIB = 1024**3
TARGETS = {"hook": 1.01, "frozen": 1.05, "through": 1.6}


def page(rows: list[dict[str, Any]]) -> str:
    """rows: as `realsize.json` keeps them. Returns the page, with a line for every target that is missed."""
    lines = [
        "# What steering costs at real size", "", "Made by:", "", "```",
        *(row["command"] for row in rows), "```", "",
        "Published architectures with random weights, unguided (a guided step costs twice as much, so the ratios of time below",
        "are the strict ones), without text encoders: their embeddings are random. Peak memory counts weights, and leaves the",
        "autoencoder's decode out, which would hide the rest. Nothing here says anything about quality.", "",
        "| model | size | step, s (range) | hook's own | watched / plain, paired | frozen nudge / step | peak, plain | frozen | through |",
        "|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for row in rows:
        time, plain = row["time"], row["plain"]["peak_bytes"]
        step = statistics.median(time["plain_s"])
        lines.append(
            f"| {row['config']} | {row['side']} px, {row['stored']} on {row['device']} "
            f"| {step:.3g} ({min(time['plain_s']):.3g}–{max(time['plain_s']):.3g}) | {time['own_ratio']:.5f} × "
            f"| {time['paired_ratio']:.3f} × of {len(time['plain_s'])} | {time['frozen_s'] / step:.4f} "
            f"| {plain / GIB:.2f} GiB | {ratio(row, 'frozen'):.3f} × | {ratio(row, 'through'):.3f} × |"
        )
    lines += ["", "| model | full decode, s | preview, s | decode / preview | preview / step |", "|---|---|---|---|---|"]  # fmt: skip
    for row in rows:
        time = row["time"]
        step = statistics.median(time["plain_s"])
        lines.append(
            f"| {named(row)} | {time['decode_s']:.3g} | {time['preview_s']:.5f} | {time['decode_s'] / time['preview_s']:.0f} "
            f"| {time['preview_s'] / step:.1g} |"
        )
    return "\n".join([*lines, "", *explained(rows), "", *missed(rows), ""])


def named(row: dict[str, Any]) -> str:
    """A configuration and where it ran."""
    return f"{row['config']} on {row['device'].removeprefix('NVIDIA ').split()[0]}"


def explained(rows: list[dict[str, Any]]) -> list[str]:
    """How to read the columns."""
    threads = ", ".join(sorted({f"{row['threads']}" for row in rows if row["device"] == "CPU"}))
    return [
        "*Hook's own*: time inside the wrapped scheduler step less the scheduler's own, with `denoised` read, by step time: what",
        "the hook adds, without the noise of the machine. *Paired*: whole calls in turn (one step on a CPU, twenty on a GPU), median",
        "of the ratios; where the machine is shared, as the range of the plain steps shows, it cannot resolve a percent, and the",
        "target is judged by the hook's own time, for which the device is waited for on both sides of every step: on a GPU that",
        "forbids the overlap that a real call has, so it is an upper bound. *Frozen nudge*: ten "
        "iterations of the objective over `denoised`.",
        "*Through*: gradient of the objective through the denoiser, with gradient checkpointing. *Preview*: the linear map of",
        "`steering/preview.py` with a neighbourhood of 3. Weights in half precision on a CPU are brought to float32 a layer at a",
        "time" + (f"; CPU threads: {threads}." if threads else "."),
    ]  # fmt: skip


def missed(rows: list[dict[str, Any]]) -> list[str]:
    """Every target with what was seen."""
    seen = {
        "hook": [(named(row), row["time"]["own_ratio"]) for row in rows],
        "frozen": [(named(row), ratio(row, "frozen")) for row in rows],
        "through": [(named(row), ratio(row, "through")) for row in rows],
    }
    names = {
        "hook": "hook per step",
        "frozen": "peak memory, frozen",
        "through": "peak memory, through the denoiser",
    }
    lines = ["| target | at most | met | missed |", "|---|---|---|---|"]
    for key, limit in TARGETS.items():
        met = ", ".join(name for name, value in seen[key] if value <= limit)
        late = ", ".join(f"{name} ({value:.3f})" for name, value in seen[key] if value > limit)
        lines.append(f"| {names[key]} | {limit} × | {met or '–'} | {late or '–'} |")
    return lines


def ratio(row: dict[str, Any], which: str) -> float:
    """Peak memory of a way of steering, by the plain run's."""
    return float(row[which]["peak_bytes"] / row["plain"]["peak_bytes"])
