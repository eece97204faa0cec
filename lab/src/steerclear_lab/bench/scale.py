"""How large may a library be? Measures exact and approximate search on synthetic vectors with near-duplicates
planted.

    python -m steerclear_lab.bench.scale --sizes 10000 100000 1000000 --out docs/benchmarks

Each size and kind of search runs in a process of its own, so that its memory is its own. Queries are the
near-duplicates: unit vectors at a stated cosine to a vector of the library, in a random direction. Nothing
clusters, which is the hardest case. Recall@1 is the share of queries whose own original comes back as the
nearest.
"""

from __future__ import annotations

import json
import multiprocessing
import platform
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from steerclear_lab.bench import documents
from steerclear_lab.bench.command_line import benchmark_parser
from steerclear_lab.bench.documents import Row
from steerclear_lab.pages import render, table

DIM = 512
COSINES = (0.95, 0.9, 0.8, 0.7, 0.6)
PLANTED = 400  # queries at each cosine
TIMED, ENOUGH_SECONDS = 100, 30  # so many calls are timed, or as many as take so long, but 20 or more
BLOCK = 50_000  # vectors made at a time
THUMBNAIL_BYTES = 8192

Matches = Callable[..., list[list[tuple[str, float]]]]
Queries = Mapping[float, tuple[Any, list[int]]]  # by cosine: vectors, and the rows that they are near


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
    """Near-duplicates of rows of the library.

    Args:
        originals: (N, DIM), unit vectors.
        cosine: of each duplicate with its original.
        seed: of the draws.

    Returns:
        (PLANTED, DIM) unit vectors, and the rows that they are near.
    """
    import torch

    draw = torch.Generator().manual_seed(seed)
    rows = torch.randint(len(originals), (PLANTED,), generator=draw)
    base = originals[rows]
    away = torch.randn(base.shape, generator=draw)
    away = torch.nn.functional.normalize(away - (away * base).sum(1, keepdim=True) * base, dim=1)
    return cosine * base + (1 - cosine**2) ** 0.5 * away, rows.tolist()


def exact(size: int, folder: Path) -> Row:
    """Measures one matrix product over all vectors in memory."""
    from steerclear.library.search import Index

    originals = vectors(size)
    index = Index(tuple(map(str, range(size))), originals)
    built = {"build_s": 0.0, "index_mb": round(originals.nbytes / 2**20)}
    return built | _measured(index.matches, _queries(originals))


def approximate(size: int, folder: Path) -> Row:
    """Measures Lance's index on disk, with exact re-ranking."""
    import lancedb
    import pyarrow as pa

    from steerclear.library import approximate as lance

    table = lancedb.connect(str(folder)).create_table(
        "items", schema=pa.schema([("id", pa.string()), ("vector", pa.list_(pa.float32(), DIM))])
    )
    originals = vectors(size)
    for start in range(0, size, BLOCK):
        flat = pa.array(originals[start : start + BLOCK].flatten().numpy())
        rows = pa.FixedSizeListArray.from_arrays(flat, DIM)
        table.add(pa.table({"id": list(map(str, range(start, start + len(rows)))), "vector": rows}))
    began = time.perf_counter()
    lance.build(table, "vector")
    seconds = time.perf_counter() - began
    disk = sum(f.stat().st_size for f in (folder / "items.lance" / "_indices").rglob("*") if f.is_file())
    queries = _queries(originals)
    del originals
    index = lance.LanceIndex(str(folder), table, "vector")
    built = {"build_s": round(seconds, 1), "index_mb": round(disk / 2**20)}
    return built | _measured(index.matches, queries)


def _queries(originals: Any) -> Queries:
    return {cosine: planted(originals, cosine, int(100 * cosine)) for cosine in COSINES}


def _measured(matches: Matches, queries: Queries) -> Row:
    """Recall, milliseconds per call, and peak memory of a search."""
    recall = {}
    for cosine, (query, rows) in queries.items():
        nearest = [match[0][0] for match in matches(query, 1)]
        recall[str(cosine)] = sum(n == str(row) for n, row in zip(nearest, rows, strict=True)) / len(rows)
    timed = {f"ms_{batch}": _milliseconds(matches, queries[COSINES[1]][0], batch) for batch in (1, 16)}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return {"recall": recall, **timed, "peak_mb": peak}


def _milliseconds(matches: Matches, queries: Any, batch: int) -> dict[str, float]:
    times: list[float] = []
    for i in range(TIMED):
        first = i * batch % (PLANTED - batch)
        began = time.perf_counter()
        matches(queries[first : first + batch], 1)
        times.append(1000 * (time.perf_counter() - began))
        if len(times) >= 20 and sum(times) > 1000 * ENOUGH_SECONDS:
            break
    times.sort()
    p50, p95 = times[len(times) // 2], times[int(0.95 * len(times))]
    return {"p50": round(p50, 2), "p95": round(p95, 2)}


def _in_this_process(kind: str, size: int, answer: Any) -> None:
    """Measure, and put the row into a queue."""
    folder = Path(tempfile.mkdtemp())
    try:
        answer.put({"exact": exact, "approximate": approximate}[kind](size, folder))
    finally:
        shutil.rmtree(folder)


def page(document: Row) -> str:
    """The Markdown page of a document. Neither weights nor the source of pictures decide these figures."""
    largest = max((r for r in document["rows"] if r["way"] == "approximate"), key=lambda row: row["size"])
    index_bytes = largest["index_mb"] * 2**20 / largest["size"]
    return render(
        "scale.md.j2",
        {
            "command": document["command"],
            "machine": document["machine"],
            "note": document.get("note", ""),
            "dimensions": DIM,
            "figures": _figures(document["rows"]),
            "index_bytes": index_bytes,
            "vector_bytes": 4 * DIM,
            "largest": largest["size"],
            "outlook": _outlook(largest, index_bytes),
        },
    )


def _figures(rows: list[Row]) -> str:
    header = [
        "vectors",
        "search",
        "build s",
        "index MB",
        "peak memory MB",
        "1 query p50 / p95",
        "16 queries p50 / p95",
        *(f"recall at {cosine}" for cosine in COSINES),
    ]
    cells = [
        [
            f"{row['size']:,}",
            *(str(row[key]) for key in ("way", "build_s", "index_mb", "peak_mb")),
            *(f"{row[key]['p50']} / {row[key]['p95']}" for key in ("ms_1", "ms_16")),
            *(f"{row['recall'][str(cosine)]:.4f}" for cosine in COSINES),
        ]
        for row in rows
    ]
    return table(header, cells)


def _outlook(largest: Row, index_bytes: float) -> str:
    """What 100 million and a billion pictures would take, from the largest run."""
    header = [
        "pictures",
        "index",
        "vectors",
        "thumbnails",
        "build, one machine of this kind",
        "scan of all partitions, one query",
    ]
    rows = []
    for size in (10**8, 10**9):
        ratio = size / largest["size"]
        rows.append(
            [
                f"{size:,}",
                f"{index_bytes * size / 2**30:,.0f} GB",
                f"{4 * DIM * size / 2**40:.2f} TB",
                f"{THUMBNAIL_BYTES * size / 2**40:.1f} TB",
                f"{largest['build_s'] * ratio / 3600:.1f} h",
                f"{largest['ms_1']['p50'] * ratio / 1000:.1f} s",
            ]
        )
    return table(header, rows)


def main() -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    args = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    rows = []
    for size in args.sizes:
        for kind in ("exact", "approximate"):
            answer = spawn.Queue()
            process = spawn.Process(target=_in_this_process, args=(kind, size, answer))
            process.start()
            rows.append({"size": size, "way": kind, **answer.get(timeout=3600)})
            process.join()
            print(json.dumps(rows[-1]), flush=True)
    document = {
        "command": "python -m steerclear_lab.bench.scale --sizes " + " ".join(map(str, args.sizes)),
        "machine": f"{multiprocessing.cpu_count()} cores ({platform.machine()})",
        "rows": rows,
    }
    documents.write(args.out, name="scale", document=document, page=page(document))


if __name__ == "__main__":
    main()
