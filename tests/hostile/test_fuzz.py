"""A minute of coverage-guided fuzzing of the picture reader."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
from test_mutations import SEEDS

HERE = Path(__file__).parent


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None,
    reason="Atheris is not installed: it has wheels for Linux and macOS up to Python 3.13 only",
)
def test_a_minute_of_fuzzing_gives_nothing_but_results_and_refusals(tmp_path):
    seeds = tmp_path / "seeds"
    seeds.mkdir()
    for kind, contents in SEEDS.items():
        for number, content in enumerate(contents):
            (seeds / f"{kind}-{number}").write_bytes(content)
    limits = (
        "-max_total_time=60",
        "-timeout=30",
        "-rss_limit_mb=4096",
        "-max_len=65536",
        "-print_final_stats=1",
    )
    run = subprocess.run(
        [sys.executable, HERE / "fuzz_pictures.py", seeds, *limits],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    print(run.stderr[-3000:])
    assert run.returncode == 0, run.stderr[-3000:]
    assert list(tmp_path.glob("crash-*")) == []
    assert int(re.search(r"number_of_executed_units: (\d+)", run.stderr)[1]) > len(list(seeds.iterdir()))
