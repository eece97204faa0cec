"""A VAE behind a guard: random codes, reconstructions, and a nudge in code space at one evaluation."""

import re
from pathlib import Path

import pytest
import torch
from code_doubles import CODE, LinearEncoder, near, tiny_module

from steerclear import CodeGuard
from steerclear.errors import ConfigError, InputError
from steerclear.generators import VaeGenerator
from steerclear.nudge import Ladder
from steerclear.nudge.code import CodeNudge, CodeTask, turned
from steerclear.pixels import to_image, to_tensor
from steerclear.testing import MockFilter
from steerclear.types import Outcome

DECODER = tiny_module()
ENCODER = LinearEncoder(DECODER)
DOCS = Path(__file__).parents[2] / "docs" / "beyond-diffusion.md"


def vae():
    return VaeGenerator(DECODER, (CODE,), encoder=ENCODER)


@torch.no_grad()
def picture(seed):
    noise = torch.randn((1, CODE), generator=torch.Generator().manual_seed(seed))
    return to_image((DECODER(noise)[0] / 2 + 0.5).clamp(0, 1))


@torch.no_grad()
def reconstructed(image):
    return to_image((DECODER(ENCODER(to_tensor([image]) * 2 - 1))[0] / 2 + 0.5).clamp(0, 1))


def test_a_clear_reconstruction_is_bit_identical_to_encoding_and_decoding():
    out = CodeGuard(vae(), [MockFilter(False)]).reconstruct([picture(3)])
    assert out.images[0].tobytes() == reconstructed(picture(3)).tobytes()
    assert out.reports[0].outcome == Outcome.CLEAR


def test_a_flagged_reconstruction_is_steered_and_its_neighbour_stays():
    images = [picture(3), picture(4)]
    filter_, pictures = near(reconstructed(images[0]))
    out = CodeGuard(vae(), [filter_], protected=pictures).reconstruct(images, seed=1)
    assert [r.outcome for r in out.reports] == ["steered", "clear"]
    assert out.images[1].tobytes() == reconstructed(images[1]).tobytes()
    assert not out.reports[0].final_detections[0].flagged


def test_a_nudge_in_code_space_leaves_the_protected_code_for_one_evaluation():
    target = picture(5)
    filter_, pictures = near(target)
    guard = CodeGuard(vae(), [filter_], protected=pictures, ladder=Ladder((CodeNudge(),)))
    report = guard(generator=torch.Generator().manual_seed(5)).reports[0]
    assert report.outcome == Outcome.STEERED
    assert report.nfe == 2  # the first image and the steered one: the encoder is not the module


@pytest.mark.parametrize("attempt", [0, 1, 2])
def test_the_nearest_clear_samples_pull_and_others_at_the_next_attempt(attempt):
    clear = torch.eye(CODE)
    code = torch.arange(CODE, 0, -1).float()[None]
    task = CodeTask(model=vae(), seed=0, code=code, space=None, unwanted=code, clear=clear, attempt=attempt)
    assert torch.equal(task.pull(code), clear[4 * attempt : 4 * attempt + 4])


def test_preferred_pictures_pull():
    filter_, pictures = near(picture(5))

    def ask(*preferred):
        guard = CodeGuard(vae(), [filter_], protected=pictures, preferred=preferred)
        return guard(generator=torch.Generator().manual_seed(5)).images[0]

    preferred = picture(9)
    code = ENCODER(to_tensor([preferred]) * 2 - 1)

    def cosine(image):
        return float(torch.cosine_similarity(ENCODER(to_tensor([image]) * 2 - 1), code))

    assert cosine(ask(preferred)) > cosine(ask()) + 0.1


def test_turning_a_code_keeps_its_length_and_ends_at_the_other():
    code, target = torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 5.0]])
    assert torch.allclose(turned(code, target, 1.0), torch.tensor([[0.0, 3.0]]), atol=1e-6)
    assert torch.allclose(turned(code, target, 0.5).norm(), code.norm())


def test_bad_input_is_named():
    guard = CodeGuard(vae(), [MockFilter(False)])
    with pytest.raises(InputError, match="0 images"):
        guard.reconstruct([])
    with pytest.raises(InputError, match="one size"):
        guard.reconstruct([picture(1), picture(1).resize((4, 4))])
    wrong = VaeGenerator(DECODER, (CODE,), encoder=lambda x: (x, x))
    with pytest.raises(ConfigError, match="tuple"):
        CodeGuard(wrong, [MockFilter(False)]).reconstruct([picture(1)])
    with pytest.raises(ConfigError, match="encoder"):
        CodeGuard(VaeGenerator(DECODER, (CODE,)), [MockFilter(False)], preferred=[picture(1)])


def test_the_snippets_in_the_docs_run():
    snippets = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert len(snippets) == 2
    space = {}
    for snippet in snippets:
        exec(compile(snippet, str(DOCS), "exec"), space)
    assert len(space["out"].images) == 4
    assert space["again"].reports[0].outcome in ("clear", "steered", "withheld")
