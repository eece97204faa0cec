"""Reference pictures from a prompt file's addresses, and SSCD's file as one more judge."""

from __future__ import annotations

import functools
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import ClassVar

import pytest
import torch
from PIL import Image, ImageDraw

from steerclear.cli import main
from steerclear.errors import InputError
from steerclear.library import Library
from steerclear.testing import tiny_pipeline
from steerclear_lab.bench import reference_pictures
from steerclear_lab.bench.prompt_files import PromptRow
from steerclear_lab.bench.reference_pictures import add_references, url_sources
from steerclear_lab.bench.sscd import SscdJudge


class Quiet(http.server.SimpleHTTPRequestHandler):
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        super().do_GET()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Of a server with two pictures, fox.png and owl.png."""
    shown = tmp_path / "shown"
    shown.mkdir()
    for name, colour in (("fox", "red"), ("owl", "blue")):
        picture = Image.new("RGB", (96, 96), "white")
        draw, random = ImageDraw.Draw(picture), Random(name)
        for _ in range(9):
            draw.polygon([(random.randrange(96), random.randrange(96)) for _ in range(3)], colour, "black")
        picture.save(shown / f"{name}.png")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(shown)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Quiet.asked.clear()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    tiny_pipeline().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def sscd(tmp_path: Path) -> Path:
    """A TorchScript file that sees as a copy descriptor does: pictures to vectors."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(4), torch.nn.Flatten(), torch.nn.Linear(48, 16))
    file = tmp_path / "sscd.torchscript.pt"
    torch.jit.script(network).save(str(file))
    return file


@pytest.mark.slow
def test_a_comparison_fetches_its_references_once_and_asks_sscd(
    address: str, model: Path, sscd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = tmp_path / "prompts.csv"
    rows = [
        "Caption;URL;type",
        f"the acme fox;{address}/fox.png;VM",
        f"the brim owl;{address}/owl.png;VM",
        f"the lost cat;{address}/cat.png;VM",
        "a bear;;ordinary",
        "a tree;;ordinary",
    ]
    prompts.write_text("\n".join(rows) + "\n")
    out = tmp_path / "out"
    words = [
        "bench",
        "--quick",
        "--methods",
        "lower guidance",
        "--steps",
        "2",
        "--model",
        str(model),
        "--prompts",
        str(prompts),
        "--references",
        "urls",
        "--sscd",
        str(sscd),
        "--out",
        str(out),
    ]
    assert main(words) == 0
    errors = capsys.readouterr().err
    assert f"no reference picture from {address}/cat.png" in errors
    document = json.loads((out / "rivals.json").read_text())
    assert all(0 <= abs(row["sscd_score"]) <= 1 for row in document["rows"] if row["phase"] == "test")
    assert document["methods"]["none"]["memorized"]["sscd_rate"]["value"] is not None
    assert "SSCD ≥ 0.5" in (out / "rivals.md").read_text()
    assert "--sscd" in document["command"]
    library = Library.open(out / "library")
    assert sorted(library.captions_of(library.ids()).values()) == ["the acme fox", "the brim owl"]
    asked = Quiet.asked.count("/fox.png")
    assert main([*words, "--resume"]) == 0
    assert Quiet.asked.count("/fox.png") == asked


def test_a_picture_is_its_own_copy_to_sscd_and_another_is_less(
    sscd: Path, tmp_path: Path, address: str
) -> None:
    shown = tmp_path / "shown"
    judge = SscdJudge.of(sscd, [shown / "fox.png"], tmp_path / "work")
    with Image.open(shown / "fox.png") as copy, Image.open(shown / "owl.png") as other:
        assert judge(copy.convert("RGB")) == pytest.approx(1.0, abs=1e-3)
        assert judge(other.convert("RGB")) < judge(copy.convert("RGB"))


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([PromptRow("a fox")], "no prompt has a URL"),
        ([PromptRow("a fox", url="file:///etc/passwd")], "no http or https address"),
    ],
)
def test_prompts_without_a_usable_address_are_refused(rows: list[PromptRow], says: str) -> None:
    with pytest.raises(InputError, match=says):
        url_sources(rows)


def test_a_picture_that_is_too_large_is_one_that_could_not_be_had(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from steerclear.encoders.embedded import CopyDescriptor

    monkeypatch.setattr(reference_pictures, "MOST_BYTES", 100)
    encoder = CopyDescriptor.default()
    library = Library.create(tmp_path / "library", [encoder])
    with pytest.raises(InputError, match=r"there are no reference pictures: .*fox\.png"):
        add_references(library, url_sources([PromptRow("a fox", url=f"{address}/fox.png")]), encoder)
