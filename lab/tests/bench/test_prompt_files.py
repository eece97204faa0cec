"""Prompt files as other comparisons keep them."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from steerclear.errors import InputError
from steerclear_lab.bench.prompt_files import PromptRow, read


def test_a_prompt_a_line(tmp_path: Path) -> None:
    file = tmp_path / "p.txt"
    file.write_text("\ufeffa fox\n\n  an owl \tmascot-owl.png\n", encoding="utf-8")
    assert read(file) == [PromptRow("a fox"), PromptRow("an owl")]


def test_json_lines_with_captions(tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    rows = [
        {"caption": "a fox", "index": 3, "url": "https://x/f.jpg"},
        {"caption": "an owl", "index": 4, "url": ""},
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read(file) == [PromptRow("a fox", url="https://x/f.jpg"), PromptRow("an owl")]


def test_semicolons_and_the_two_types_of_memorization(tmp_path: Path) -> None:
    file = tmp_path / "p.csv"
    file.write_text(
        'Caption;URL;type;mean_sscd;max_sscd;Index\n"a fox; red";u1;VM;0.9;0.95;7\nan owl;u2;TM;0.6;0.7;8\n'
    )
    assert read(file) == [PromptRow("a fox; red", "memorized", "u1"), PromptRow("an owl", "template", "u2")]


def test_parquet_with_overfit_types(tmp_path: Path) -> None:
    file = tmp_path / "p.parquet"
    table = pa.table({"caption": ["a fox", "an owl"], "url": ["u1", None], "overfit_type": ["MV", "TV"]})
    pq.write_table(table, file)
    assert read(file) == [PromptRow("a fox", "memorized", "u1"), PromptRow("an owl", "template")]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("p.doc", "a fox", "has no known format"),
        ("p.txt", "\n", "there is no prompt"),
        ("p.csv", "Title;URL\na fox;u\n", "line 2 has no caption: its columns are title, url"),
        ("p.jsonl", "[1]\n", "line 1 is no JSON object"),
        ("p.jsonl", "{", "cannot read the prompts"),
        ("p.parquet", "no parquet", "cannot read the prompts"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str, content: str, says: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=says):
        read(tmp_path / name)
    with pytest.raises(InputError, match="cannot read"):
        read(tmp_path / "missing.txt")
