"""The protected items as a pipeline sees them: right for every family, made from the originals, and kept."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from steerclear.encoders import load_encoder
from steerclear.errors import LibraryError
from steerclear.generators import PipelineRunner
from steerclear.library import Library, add
from steerclear.pixels import to_tensor
from steerclear.protected import Protected
from steerclear.steering.codecs import codec_for
from steerclear.testing import FAMILIES, tiny_call, tiny_pipeline


def drawing(width=96, height=96, shift=0):
    rows = torch.linspace(0, 1, height)[:, None].expand(height, width)
    columns = torch.linspace(0, 1, width)[None, :].expand(height, width)
    pixels = torch.stack([rows, columns, (rows * 7 + columns * 5 + shift).sin() / 2 + 0.5], dim=-1)
    return Image.fromarray((pixels * 255).byte().numpy())


@pytest.fixture
def library(tmp_path):
    (tmp_path / "in").mkdir()
    for i in range(2):
        drawing(shift=i).save(tmp_path / "in" / f"{i}.png")
    encoder = load_encoder("descriptor")
    library = Library.create(tmp_path / "library", [encoder])
    add(library, tmp_path / "in", [encoder])
    return library


def like(pipe, size=64):
    return codec_for(pipe).encode(torch.zeros(1, 3, size, size))[:0]


def spied(protected, monkeypatch):
    seen = []
    encode = protected._encode
    monkeypatch.setattr(
        protected, "_encode", lambda pixels, *a: (seen.append(pixels.shape), encode(pixels, *a))[1]
    )
    return seen


@pytest.mark.parametrize("family", [f for f in FAMILIES if f != "dit"])
def test_a_protected_latent_has_the_shape_of_what_the_pipeline_makes(family):
    pipe = tiny_pipeline(family)
    run = PipelineRunner(pipe).run(generator=torch.Generator().manual_seed(0), **tiny_call(family, steps=3))
    protected = Protected(pipe, {"a": to_tensor([drawing()])[0]})
    assert protected.latents(["a"], run.latents).shape == run.latents.shape


@pytest.mark.parametrize("family", ["flux", "qwen"])
def test_a_packed_image_that_is_no_square_is_encoded_and_decoded_at_its_size(family):
    pipe, size = tiny_pipeline(family), (64, 32)
    call = {**tiny_call(family, steps=1), "height": 64, "width": 32}
    run = PipelineRunner(pipe).run(generator=torch.Generator().manual_seed(0), **call)
    protected = Protected(pipe, {"a": to_tensor([drawing()])[0]})
    assert protected.latents(["a"], run.latents, size).shape == run.latents.shape
    assert protected.decode(run.latents, size)[0].size == (32, 64)


def test_a_latent_is_made_once_and_kept_in_the_library_for_the_next_process(library, monkeypatch):
    pipe = tiny_pipeline("sd1")
    wanted = Protected.of(pipe, library).latents(["0", "1"], like(pipe))
    later = Protected.of(pipe, Library.open(library.uri))
    seen = spied(later, monkeypatch)
    assert torch.equal(later.latents(["1", "0"], like(pipe)), wanted.flip(0))
    assert seen == []


def test_what_the_library_says_is_to_be_withheld_is_known(library, tmp_path):
    pipe = tiny_pipeline("sd1")
    assert Protected.of(pipe, library).withhold == frozenset()
    drawing(shift=5).save(tmp_path / "in" / "private.png")
    add(library, tmp_path / "in" / "private.png", [load_encoder("descriptor")], policy="withhold")
    protected = Protected.of(pipe, library)
    assert protected.withhold == {"private"}
    assert set(protected.pictures) == {"0", "1", "private"}


def test_another_autoencoder_or_another_size_never_gets_what_was_kept(library, monkeypatch):
    first, second = tiny_pipeline("sd1"), tiny_pipeline("sd1", seed=1)
    latents = Protected.of(first, library).latents(["0"], like(first))
    other = Protected.of(second, library)
    seen = spied(other, monkeypatch)
    assert not torch.allclose(other.latents(["0"], like(second)), latents)
    assert other.latents(["0"], like(second, 128)).shape[-1] == 2 * latents.shape[-1]
    assert len(seen) == 2


def test_a_latent_comes_from_the_original_and_from_the_thumbnail_once_that_is_gone_or_changed(
    library, tmp_path, monkeypatch
):
    pipe = tiny_pipeline("sd1")
    (tmp_path / "in" / "1.png").write_bytes((tmp_path / "in" / "0.png").read_bytes())
    protected = Protected.of(pipe, library)
    seen = spied(protected, monkeypatch)
    protected.latents(["0", "1"], like(pipe))
    assert [shape[-1] for shape in seen] == [96, 64]


def test_a_picture_that_takes_anothers_id_does_not_get_its_latent(library, tmp_path):
    pipe = tiny_pipeline("sd1")
    before = Protected.of(pipe, library).latents(["0"], like(pipe))
    library.remove(["0"])
    drawing(shift=3).save(tmp_path / "in" / "0.png")
    add(library, tmp_path / "in" / "0.png", [load_encoder("descriptor")])
    assert not torch.allclose(Protected.of(pipe, library).latents(["0"], like(pipe)), before)


def test_the_latents_of_an_offloaded_autoencoder_are_made_and_not_kept(library, monkeypatch):
    accelerate = pytest.importorskip("accelerate")
    pipe = tiny_pipeline("sd1")
    wanted, shape = Protected(pipe, library.pictures()).latents(["0"], like(pipe)), like(pipe)
    accelerate.cpu_offload(pipe.vae, execution_device=torch.device("cpu"))
    for _ in range(2):
        protected = Protected.of(pipe, library)
        seen = spied(protected, monkeypatch)
        assert protected.latents(["0"], shape).shape == wanted.shape
        assert len(seen) == 1


def test_a_library_that_nobody_may_write_to_serves_as_well(library, monkeypatch):
    from steerclear.library.latents import LatentCache

    def refuse(self, latents, size=None):
        raise LibraryError("read-only")

    monkeypatch.setattr(LatentCache, "write", refuse)
    pipe = tiny_pipeline("sd1")
    originals = {str(i): to_tensor([drawing(shift=i)])[0] for i in range(2)}
    wanted = Protected(pipe, originals).latents(["0", "1"], like(pipe))
    assert torch.allclose(Protected.of(pipe, library).latents(["0", "1"], like(pipe)), wanted)


def test_items_are_described_in_their_order_and_a_library_that_cannot_be_read_is_no_obstacle():
    def refuse(ids):
        raise LibraryError("damaged")

    pipe = tiny_pipeline()
    said = {"owl": "an owl", "fox": "a fox"}
    assert Protected(pipe, {}, describe=lambda ids: said).captions(["fox", "bear", "owl"]) == (
        "a fox",
        "an owl",
    )
    assert Protected(pipe, {}, describe=refuse).captions(["fox"]) == ()
    assert Protected(pipe, {}).captions(["fox"]) == ()


def test_pictures_are_read_once_for_a_preview_that_is_looked_at_many_times():
    class Read(dict):
        times = 0

        def __getitem__(self, item):
            self.times += 1
            return super().__getitem__(item)

    pipe = tiny_pipeline()
    pictures = Read({str(i): to_tensor([drawing(shift=i)])[0] for i in range(3)})
    protected = Protected(pipe, pictures)
    latents = codec_for(pipe).encode(to_tensor([drawing(64, 64)]))
    first = protected.preview(latents)
    assert pictures.times == 3
    assert torch.equal(protected.preview(latents), first)
    assert pictures.times == 3
