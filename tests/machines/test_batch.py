"""`steerclear batch` in one process: what it writes, and going on after a kill."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest
from batch_doubles import ROWS, options, pictures, results, run, start, write_rows
from serve_doubles import COPIED, ITEM, ORDINARY, plain

from steerclear.cli.batch.outputs import Outputs
from steerclear.cli.batch.rows import read_rows
from steerclear.errors import InputError


def test_every_row_has_one_result_and_a_clear_one_the_plain_pipelines_picture(assets, tmp_path):
    out = str(tmp_path / "out")
    words = (write_rows(tmp_path / "prompts.parquet", ROWS), "--out", out, "--part", 2, *options(assets))
    assert run(*words) == 0
    rows = results(out)
    assert [(row["row"], row["prompt"], row["seed"]) for row in rows] == [(i, *r) for i, r in enumerate(ROWS)]
    assert [row["outcome"] for row in rows] == ["steered", "clear", "clear", "clear", "steered"]
    assert rows[0]["matched"] == ITEM
    assert json.loads(rows[0]["detections"])[0]["filter"] == "nearest"
    produced = pictures(out)
    assert produced[1] == plain(assets / "model", ORDINARY, 3).tobytes()
    assert produced[0] == produced[4] != plain(assets / "model", COPIED, 0).tobytes()

    # a part that was not recorded is made again, and no other one; a picture that it left is replaced
    first, second, third = sorted((tmp_path / "out/results").iterdir())
    kept = {file: file.stat().st_mtime_ns for file in (first, third)}
    second.unlink()
    (tmp_path / "out/pictures/00000002.png").write_bytes(b"half a picture")
    (tmp_path / "out/results/part-000001.parquet.12.partial").write_bytes(b"half a table")
    assert run(*words) == 0
    assert {file: file.stat().st_mtime_ns for file in (first, third)} == kept
    assert pictures(out) == produced
    assert [row["row"] for row in results(out)] == list(range(len(ROWS)))


def test_what_is_withheld_has_no_picture_and_another_batch_is_refused(assets, tmp_path, capsys):
    out = tmp_path / "out"
    (tmp_path / "prompts.txt").write_text(f"{COPIED}\n")
    (out / "pictures").mkdir(parents=True)
    (out / "pictures/00000000.png").write_bytes(b"from a run that was killed, by an older library")
    words = (tmp_path / "prompts.txt", "--out", out, *options(assets), "--budget", 0)
    assert run(*words) == 3
    (row,) = results(str(out))
    assert (row["outcome"], row["picture"], row["picture_sha256"]) == ("withheld", None, None)
    assert list((out / "pictures").iterdir()) == []
    capsys.readouterr()
    assert run(*words, "--seed", 1) == 2
    assert "differs in rows_sha256, seed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "contents", "says"),
    [
        ("a.jsonl", '{"prompt": "a fox"}\n{"prompt": 7}\n', "the prompt of line 2"),
        ("a.jsonl", '{"prompt": "a fox", "seed": -1}\n', "the seed of line 1"),
        ("a.jsonl", '{"prompt": "a fox", "seed": true}\n', "the seed of line 1"),
        ("a.jsonl", '["a fox"]\n', "give an object"),
        ("a.jsonl", "{\n", "no JSON"),
        ("a.jsonl", "\n", "there is no row"),
        ("a.jsonl", '{"prompt": " "}\n', "empty"),
        ("a.parquet", "no table", "as parquet"),
        ("a.csv", "prompt\na fox\n", "is none of"),
    ],
)
def test_a_list_that_cannot_be_used_says_which_row_and_why(tmp_path, name, contents, says):
    file = tmp_path / name
    file.write_text(contents)
    with pytest.raises(InputError, match=says):
        read_rows(file, 0)


def test_a_place_that_cannot_be_written_is_named(tmp_path, bucket, monkeypatch):
    with pytest.raises(InputError, match="s3://nowhere-at-all/run"):
        Outputs.open("s3://nowhere-at-all/run").write("a", b"")
    monkeypatch.delenv("AWS_ALLOW_HTTP")
    with pytest.raises(InputError, match="AWS_ALLOW_HTTP"):
        Outputs.open(f"{bucket}/run")
    with pytest.raises(InputError, match="nosuch"):
        Outputs.open("nosuch://place/run")


@pytest.mark.slow
def test_killed_again_and_again_on_s3_it_ends_with_what_an_undisturbed_run_gives(assets, bucket, tmp_path):
    rows = [(prompt, seed) for seed in range(12) for prompt in (COPIED, ORDINARY)]
    words = (write_rows(tmp_path / "prompts.parquet", rows), "--part", 2, *options(assets))
    assert run(*words, "--out", tmp_path / "undisturbed") == 0
    out, log = f"{bucket}/run", tmp_path / "log"
    outputs, kills = Outputs.open(out), 0
    while True:
        before = len(outputs.names("results"))
        process = start(log, *words, "--out", out)
        while process.poll() is None and len(outputs.names("results")) < min(before + 3, 12):
            time.sleep(0.01)
        if process.poll() is not None or before + 3 >= 12:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
    assert process.wait() == 0, log.read_text()
    assert kills >= 3
    assert pictures(out) == pictures(str(Path(tmp_path / "undisturbed")))
    assert [(row["prompt"], row["seed"]) for row in results(out)] == rows
