"""`steerclear library …` as its user sees it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import lancedb
import pytest
from cli_doubles import ENCODER, write_pictures
from PIL import Image

from steerclear.cli.library import app
from steerclear.cli.library.recognition import RECALL, recognition
from steerclear.copy_detection import Effort
from steerclear.library import Library, add


@pytest.fixture
def art(here):
    """Five different pictures in a folder `art`."""
    return write_pictures(here / "art", range(5))


@pytest.fixture
def filled(run, here, art):
    """Run a command of `steerclear library` on a library of the five pictures."""
    add(Library.create("filled", [ENCODER]), art, [ENCODER], owner="Acme")
    return lambda *words: run("library", *words, "--library", "filled")


def test_add_makes_the_library_and_says_what_it_did(run, art):
    result = run(
        "library", "add", "art", "--owner", "Acme", "--tag", "a", "--tag", "b", "--policy", "withhold"
    )
    assert result.code == 0, result.stderr
    assert result.stdout == "5 added, 0 already there, 0 failed; the library holds 5\n"
    item = Library.open("library").get("picture-0")
    assert (item.owner, item.tags, item.policy) == ("Acme", ("a", "b"), "withhold")
    assert "0 added, 5 already there" in run("library", "add", "art").stdout


def test_add_lists_failures_and_exits_with_one(run, art):
    Path("art/bad.png").write_bytes(b"bad")
    result = run("library", "add", "art")
    assert result.code == 1
    assert "failed: art/bad.png:" in result.stderr
    assert "5 added" in result.stdout


def test_add_lists_blank_pictures_with_the_reason_and_exits_with_one(run, art):
    Image.new("RGB", (40, 40), "white").save("art/blank.png")
    result = run("library", "add", "art")
    assert result.code == 1
    assert "failed: art/blank.png: it is blank, or nearly" in result.stderr
    assert "5 added, 0 already there, 1 failed" in result.stdout


def test_add_takes_captions_from_a_json_file(run, art):
    Path("captions.json").write_text(json.dumps({"picture-2": "two"}))
    assert run("library", "add", "art", "--captions", "captions.json").code == 0
    assert Library.open("library").get("picture-2").caption == "two"


@pytest.mark.parametrize(
    "words",
    [
        ("add", "nowhere"),
        ("add", "art", "--policy", "burn"),
        ("add", "art", "--captions", "nowhere.json"),
        ("list",),
        ("list", "--library", "art"),
        ("verify",),
    ],
)
def test_an_error_is_one_line_on_stderr_and_code_two(run, art, words):
    result = run("library", *words)
    assert (result.code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert not Path("nowhere").exists()


def test_list_filters_and_prints_json(filled):
    assert [line.split()[0] for line in filled("list").stdout.splitlines()][:2] == ["id", "picture-0"]
    items = json.loads(filled("list", "--json", "--owner", "Acme").stdout)
    assert [i["id"] for i in items] == [f"picture-{n}" for n in range(5)]
    assert json.loads(filled("list", "--json", "--tag", "x").stdout) == []


def test_show_prints_every_column(filled):
    assert "owner    Acme" in filled("show", "picture-1").stdout
    assert json.loads(filled("show", "picture-1", "--json").stdout)["policy"] == "steer"
    assert filled("show", "nobody").code == 2


def test_remove_tells_how_to_undo_it(filled):
    result = filled("remove", "picture-1", "picture-2")
    assert result.stdout.startswith("2 removed; undo with: steerclear library restore ")
    version = result.stdout.split("restore ")[1].split()[0]
    assert filled("restore", version).stdout == f"version {version} restored; the library holds 5\n"
    assert [line.split()[-1] for line in filled("log").stdout.splitlines()][-3:] == ["5", "3", "5"]
    assert filled("remove", "picture-1", "nobody").code == 2
    assert len(Library.open("filled")) == 5


def test_compact_says_what_became_of_versions_and_bytes(filled):
    for item in ("picture-1", "picture-2"):
        assert filled("remove", item).code == 0
    result = filled("compact", "--versions", "1")
    assert result.code == 0, result.stderr
    before, after, size_before, size = map(int, re.findall(r"\d+", result.stdout.replace(",", "")))
    assert (before, after) == (4, 1)
    assert size < size_before
    assert filled("restore", "1").code == 2
    assert filled("compact", "--versions", "0").code == 2


def test_purge_leaves_a_line_in_the_log_that_does_not_say_what(filled):
    assert filled("purge", "picture-1", "nobody", "--why", "test").code == 2
    assert filled("purge", "picture-1").code == 2  # no reason
    result = filled("purge", "picture-1", "picture-2", "--why", "licence\nended", "--who", "Ada")
    assert result.code == 0, result.stderr
    searched = r"2 purged, none of their bytes is in the \d+ files of the folder; only version \d+ is left"
    assert re.match(searched, result.stdout)
    logged = filled("log").stdout.splitlines()
    assert re.fullmatch(r"purged \d{4}-\d\d-\d\d [\d:]+ UTC by Ada, 2 items: licence\\nended", logged[-1])
    assert "picture-1" not in "".join(logged)
    assert [i.id for i in Library.open("filled").items()] == ["picture-0", "picture-3", "picture-4"]


def test_migrate_brings_an_older_library_in_order_and_says_how_to_undo_it(filled):
    assert filled("migrate").stdout == "nothing to do\n"
    table = lancedb.connect("filled").open_table("items")
    table.drop_columns(["licence"])
    result = filled("list")
    assert (result.code, "run `steerclear library migrate --library filled`" in result.stderr) == (2, True)
    result = filled("migrate")
    assert "column licence brought in order\nmigrated; undo with: steerclear library restore" in result.stdout
    assert len(json.loads(filled("list", "--json").stdout)) == 5


def test_search_finds_the_picture_itself_first(filled):
    best = json.loads(filled("search", "art/picture-3.png", "-k", "2", "--json").stdout)
    assert (best[0]["id"], round(best[0]["score"], 4), len(best)) == ("picture-3", 1.0, 2)
    table = filled("search", "art/picture-3.png").stdout.splitlines()
    assert (table[1].split(), len(table)) == (["1.0000", "picture-3"], 6)
    for words in (("art/none.png",), ("art/picture-3.png", "--encoder", "sscd")):
        assert filled("search", *words).code == 2


def test_stats_count_by_owner_and_policy(filled):
    figures = json.loads(filled("stats", "--json").stdout)
    assert (figures["items"], figures["owners"], figures["policies"]) == (5, {"Acme": 5}, {"steer": 5})
    assert figures["encoders"] == {"descriptor": {"dim": ENCODER.dim, "fingerprint": ENCODER.fingerprint}}
    assert "items     5" in filled("stats").stdout


def test_verify_names_a_source_that_has_changed(filled):
    assert filled("verify", "--sources").stdout == "5 items, 0 problems\n"
    Path("art/picture-0.png").write_bytes(b"other")
    Path("art/picture-1.png").unlink()
    result = filled("verify", "--sources")
    assert (result.code, result.stdout) == (1, "5 items, 2 problems\n")
    assert "picture-0: its source" in result.stderr


def test_an_export_can_be_added_to_another_library(filled, run):
    assert filled("export", "all.parquet").code == 0
    assert run("library", "add", "all.parquet", "--library", "second").code == 0
    assert Library.open("second").fingerprint() == Library.open("filled").fingerprint()
    assert Library.open("second").get("picture-0").owner == "Acme"
    assert filled("export", "no/where.parquet").code == 2


def test_every_command_has_a_help_with_an_example(run):
    for command in app.registered_commands:
        name = command.name or command.callback.__name__
        result = run("library", name, "--help")
        assert result.code == 0
        assert f"steerclear library {name}" in result.stdout


def test_a_library_that_no_guard_would_take_yet_is_told_to_be_calibrated(run, art):
    result = run("library", "add", "art", "-l", "two", "--encoder", "descriptor", "--encoder", "clip")
    assert result.code == 0, result.stderr
    assert result.stderr.splitlines()[-1] == (
        "next: this library has no thresholds for its encoders yet, and no guard takes it without; run: "
        "steerclear calibrate --library two --clean IMAGES_OR_PROMPTS"
    )


def test_add_names_pictures_that_are_too_plain_and_takes_them_all_the_same(run, art):
    flag = Image.new("RGB", (90, 60), "white")
    flag.paste((206, 17, 38), (0, 30, 90, 60))
    flag.save("art/poland.png")
    result = run("library", "add", "art")
    assert result.code == 0
    assert "6 added" in result.stdout
    assert "only nearly unaltered copies are sure to be found of poland\n" in result.stderr
    assert "too plain" not in run("library", "add", "art").stderr  # nothing was added


def test_add_list_and_log_say_what_looks_for_copies_and_what_it_is_good_for(run, art):
    added = run("library", "add", "art")
    for result in (added, run("library", "list"), run("library", "log")):
        lines = [line for line in result.stderr.splitlines() if line.startswith("`copy`: ")]
        assert lines == [recognition(5, "descriptor")]
    assert "`copy`" not in run("library", "list", "--json").stderr


def test_what_looks_for_copies_follows_the_size_of_the_library():
    assert "every item is compared" in recognition(5, "descriptor")
    assert "at 1,000 items" in recognition(101, "descriptor")
    assert recognition(15_000, "descriptor").endswith("at 10,000 items; more were not measured")
    assert "the encoder 'descriptor' nominates" in recognition(20_001, "descriptor")


def test_the_recall_that_is_said_is_the_measured_one():
    page = Path(__file__).parents[2] / "docs" / "benchmarks" / "copy-detection.json"
    rows = {row["items"]: row for row in json.loads(page.read_text())["scale"]}
    assert set(rows) == set(RECALL)
    for items, said in RECALL.items():
        nominees = Effort.for_library(items).items
        measured = max(share for key, share in rows[items].items() if _count(key) <= nominees)
        assert said <= measured < said + 0.01


def _count(column):
    """Of how many nominees a column of the page gives the recall; more than any for other columns."""
    return int(column.removeprefix("recall of ")) if column.startswith("recall of ") else 10**9
