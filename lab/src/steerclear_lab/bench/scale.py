"""How large may a library be? Exact and approximate search, on synthetic vectors with near-duplicates planted.

    python -m steerclear_lab.bench.scale --sizes 10000 100000 1000000 --out docs/benchmarks

Each size and way runs in a process of its own, so that its memory is its own. Queries are the near-duplicates: unit vectors
at a stated cosine to a vector of the library, in a random direction, which is the hardest case there is, since nothing
clusters. Recall@1 is the share whose own original comes back as the nearest.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

DIM = 512
COSINES = (0.95, 0.9, 0.8, 0.7, 0.6)
PLANTED = 400  # queries at each cosine
TIMED, ENOUGH_S = (
    100,
    30,
)  # queries, or batches of queries, whose time is measured, or as many as take so many seconds
BLOCK = 50_000  # vectors made at a time


def vectors(size: int, seed: int = 0) -> Any:
    """(size, DIM) float32 unit vectors, the same for a size in every process."""
    import torch

    out = torch.empty(size, DIM)
    draw = torch.Generator().manual_seed(seed)
    for start in range(0, size, BLOCK):
        block = torch.randn(min(BLOCK, size - start), DIM, generator=draw)
        out[start : start + BLOCK] = torch.nn.functional.normalize(block, dim=1)
    return out


def planted(originals: Any, cosine: float, seed: int) -> tuple[Any, list[int]]:
    """PLANTED unit vectors at `cosine` to rows of the library, and those rows' indices."""
    import torch

    draw = torch.Generator().manual_seed(seed)
    rows = torch.randint(len(originals), (PLANTED,), generator=draw)
    base = originals[rows]
    away = torch.randn(base.shape, generator=draw)
    away = torch.nn.functional.normalize(away - (away * base).sum(1, keepdim=True) * base, dim=1)
    return cosine * base + (1 - cosine**2) ** 0.5 * away, rows.tolist()


def exact(size: int, folder: Path) -> dict[str, Any]:
    """One matrix product over everything in memory."""
    from steerclear.library.search import Index

    everything = vectors(size)
    index = Index(tuple(map(str, range(size))), everything)
    return _asked(index.matches, everything, {"build_s": 0.0, "index_mb": round(everything.nbytes / 2**20)})


def approximate(size: int, folder: Path) -> dict[str, Any]:
    """Lance's index on disk, with exact re-ranking."""
    import lancedb
    import pyarrow as pa

    from steerclear.library import approximate as lance

    table = lancedb.connect(str(folder)).create_table(
        "items", schema=pa.schema([("id", pa.string()), ("vector", pa.list_(pa.float32(), DIM))])
    )
    everything = vectors(size)
    for start in range(0, size, BLOCK):
        flat = pa.array(everything[start : start + BLOCK].flatten().numpy())
        rows = pa.FixedSizeListArray.from_arrays(flat, DIM)
        table.add(pa.table({"id": list(map(str, range(start, start + len(rows)))), "vector": rows}))
    began = time.perf_counter()
    lance.build(table, "vector")
    built = time.perf_counter() - began
    disk = sum(f.stat().st_size for f in (folder / "items.lance" / "_indices").rglob("*") if f.is_file())
    queries = {c: planted(everything, c, int(100 * c)) for c in COSINES}
    del everything
    index = lance.LanceIndex(str(folder), table, "vector")
    return _asked(index.matches, None, {"build_s": round(built, 1), "index_mb": round(disk / 2**20)}, queries)


Matches = Callable[..., list[list[tuple[str, float]]]]


def _asked(matches: Matches, everything: Any, found: dict[str, Any], queries: Any = None) -> dict[str, Any]:
    queries = queries or {c: planted(everything, c, int(100 * c)) for c in COSINES}
    found["recall"] = {}
    for cosine, (asked, rows) in queries.items():
        best = [row[0][0] for row in matches(asked, 1)]
        found["recall"][str(cosine)] = sum(b == str(r) for b, r in zip(best, rows, strict=True)) / len(rows)
    asked = queries[COSINES[1]][0]
    for batch in (1, 16):
        times = []
        for i in range(TIMED):
            first = i * batch % (PLANTED - batch)
            began = time.perf_counter()
            matches(asked[first : first + batch], 1)
            times.append(1000 * (time.perf_counter() - began))
            if len(times) >= 20 and sum(times) > 1000 * ENOUGH_S:
                break
        times.sort()
        p50, p95 = times[len(times) // 2], times[int(0.95 * len(times))]
        found[f"ms_{batch}"] = {"p50": round(p50, 2), "p95": round(p95, 2)}
    found["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return found


def _alone(way: str, size: int, answer: Any) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        answer.put({"exact": exact, "approximate": approximate}[way](size, folder))
    finally:
        shutil.rmtree(folder)


def page(found: dict[str, Any]) -> str:
    """The Markdown page."""
    lines = [
        "# How search scales", "", f"Made by `{found['command']}` on {found['machine']}, {DIM} dimensions.", "",
        "Synthetic unit vectors without any structure; queries are near-duplicates at the stated cosine to one of them, so that",
        "everything else lies near cosine 0. *exact* is one matrix product over all vectors in memory; *approximate* scans one",
        "bit per dimension of Lance's index and compares the best 64 exactly. Milliseconds per call, for one query and for 16 at once.", "",
        *([found["note"], ""] if "note" in found else []),
        "| vectors | way | build s | index MB | peak memory MB | 1 query p50 / p95 | 16 queries p50 / p95 | "
        + " | ".join(f"recall at {c}" for c in COSINES) + " |",
        "|---|---|---|---|---|---|---|" + "---|" * len(COSINES),
    ]  # fmt: skip
    for row in found["rows"]:
        one, many = row["ms_1"], row["ms_16"]
        recall = " | ".join(f"{row['recall'][str(c)]:.4f}" for c in COSINES)
        lines.append(
            f"| {row['size']:,} | {row['way']} | {row['build_s']} | {row['index_mb']} | {row['peak_mb']} | "
            f"{one['p50']} / {one['p95']} | {many['p50']} / {many['p95']} | {recall} |"
        )
    return "\n".join([*lines, "", *outlook(found["rows"]), ""])


def outlook(rows: list[dict[str, Any]]) -> list[str]:
    """What 100 million and a billion pictures would take, from the largest size that was run."""
    near = max((row for row in rows if row["way"] == "approximate"), key=lambda row: row["size"])
    largest = near["size"]
    each_index, each_vector = near["index_mb"] * 2**20 / largest, 4 * DIM
    lines = [
        "## On paper: 100 million and a billion", "",
        f"The index takes {each_index:.0f} bytes a picture, the vector {each_vector}, a thumbnail about 8 kB (measured on the embedded",
        f"library). From the run with {largest:,}:", "",
        "| pictures | index | vectors | thumbnails | build, one machine of this kind | scan of all partitions, one query |",
        "|---|---|---|---|---|---|",
    ]  # fmt: skip
    for size in (10**8, 10**9):
        ratio = size / largest
        lines.append(
            f"| {size:,} | {each_index * size / 2**30:,.0f} GB | {each_vector * size / 2**40:.2f} TB | "
            f"{8192 * size / 2**40:.1f} TB | {near['build_s'] * ratio / 3600:.1f} h | {near['ms_1']['p50'] * ratio / 1000:.1f} s |"
        )
    return [
        *lines, "",
        "Index, vectors and thumbnails lie on object storage; a query reads what it scans of the index and fetches 64 vectors. At these",
        "sizes nobody scans every partition: with `probes` at 1 % the scan is a hundredth of the time stated, and what it may miss",
        "depends on how the embeddings cluster, which random vectors do not: measure recall on your own before relying on it.",
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"))
    args = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    rows = []
    for size in args.sizes:
        for way in ("exact", "approximate"):
            answer = context.Queue()
            process = context.Process(target=_alone, args=(way, size, answer))
            process.start()
            rows.append({"size": size, "way": way, **answer.get(timeout=3600)})
            process.join()
            print(json.dumps(rows[-1]), flush=True)
    command = "python -m steerclear_lab.bench.scale --sizes " + " ".join(map(str, args.sizes))
    machine = f"{multiprocessing.cpu_count()} cores ({platform.machine()})"
    found = {"command": command, "machine": machine, "rows": rows}
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "scale.json").write_text(json.dumps(found, indent=1) + "\n")
    (args.out / "scale.md").write_text(page(found))


if __name__ == "__main__":
    main()
