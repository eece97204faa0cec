"""The siblings: trained by one loop, loaded by diffusers itself, guarded like any other pipeline."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from diffusers import DiTPipeline, StableDiffusion3Pipeline
from torch.nn import functional as F
from training_pictures import PICTURES

from steerclear import Guard, Outcome
from steerclear.errors import InputError, ModelError
from steerclear.pipelines import load_pipeline
from steerclear.testing import MockFilter
from steerclear_lab.emoji import dataset, denoiser_training, dit, flow, recipe
from steerclear_lab.emoji.denoiser_training import LatentPool, Phase, split_pictures
from steerclear_lab.emoji.recipe import PRESETS
from steerclear_lab.emoji.sibling_figures import called_by_prompts, measure
from steerclear_lab.emoji.siblings import SIBLINGS, embedded_parts, load_sibling
from steerclear_lab.emoji.training import Schedule

PHASES = (Phase(start=0.0, planted_share=0.25, copies=2, rate=1.0),)
SCHEDULE = Schedule(steps=40, batch=16, rate=2e-3, warmup=5, ema=0.9)
CALL = {"dit": {"class_labels": [0]}, "flow": {"prompt": "a fox, noto style", "max_sequence_length": 1}}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Per sibling, its folder and the loss of every step, of a tiny model on the pictures above."""
    folder, losses = tmp_path_factory.mktemp("siblings"), {name: [] for name in SIBLINGS}
    plain_train = denoiser_training.train

    def recording_train(run, *, pool, phases, network, example):
        def recorded(batch):
            inputs, target = example(batch)
            with torch.no_grad():
                losses[run.name].append((network(*inputs) - target).square().mean().item())
            return inputs, target

        return plain_train(run, pool=pool, phases=phases, network=network, example=recorded)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(denoiser_training, "train", recording_train)
        patch.setattr(dataset, "build", lambda *_: PICTURES)
        tiny = replace(
            PRESETS["cpu"],
            dit=SCHEDULE,
            flow=SCHEDULE,
            phases=PHASES,
            dit_size=dit.DitSize(layers=1, heads=2),
            flow_size=flow.FlowSize(layers=2, heads=2),
        )
        recipe.run_stages(tiny, work=folder / "work", out=folder, stages=SIBLINGS, report=lambda text: None)
    return folder, losses


@pytest.mark.parametrize("name", SIBLINGS)
def test_a_few_steps_lower_the_loss(trained, name):
    losses = trained[1][name]
    assert len(losses) == 1 + SCHEDULE.steps
    assert sum(losses[-8:]) < 0.8 * sum(losses[:8])


@pytest.mark.parametrize("name", SIBLINGS)
def test_what_is_written_is_small_and_loads_around_what_the_package_ships(trained, name):
    folder = trained[0]
    assert sum(f.stat().st_size for f in (folder / name).rglob("*") if f.is_file()) < 15e6
    assert {f.name for f in (folder / name).iterdir() if f.is_dir()} == {"scheduler", "transformer"}
    pipe = load_sibling(name, folder)
    image = pipe(**CALL[name], num_inference_steps=2, generator=torch.Generator().manual_seed(0)).images[0]
    assert image.size == (64, 64)


def test_a_sibling_saved_whole_is_loaded_by_diffusers_and_by_the_guard(trained, tmp_path):
    load_sibling("dit", trained[0]).save_pretrained(tmp_path / "dit")
    assert DiTPipeline.from_pretrained(tmp_path / "dit").labels["a photo of a wall"] == 3
    load_sibling("flow", trained[0]).save_pretrained(tmp_path / "flow")
    pipe = StableDiffusion3Pipeline.from_pretrained(tmp_path / "flow", text_encoder_3=None, tokenizer_3=None)
    assert type(load_pipeline(tmp_path / "flow")) is type(pipe)


@pytest.mark.parametrize("name", SIBLINGS)
def test_a_flagged_picture_of_a_sibling_is_steered(trained, name):
    guard = Guard(load_sibling(name, trained[0]), [MockFilter([True, False])])
    out = guard(**CALL[name], num_inference_steps=3, generator=torch.Generator().manual_seed(0))
    assert out.reports[0].outcome == Outcome.STEERED, out.reports[0].attempts


@pytest.mark.parametrize("name", SIBLINGS)
def test_the_figures_of_a_sibling_count_planted_and_ordinary_pictures(trained, name, tmp_path, monkeypatch):
    monkeypatch.setattr("steerclear_lab.emoji.evaluate.STEPS", 2)
    figures = measure(load_sibling(name, trained[0]), pictures=PICTURES, name=name, out=tmp_path)
    assert figures["planted"]["n"] == 4
    assert figures["ordinary"]["n"] == 2
    assert {f.name for f in tmp_path.iterdir()} == {
        f"{name}.json",
        f"{name}-planted.png",
        f"{name}-ordinary.png",
    }


def test_a_pipeline_of_classes_is_called_by_captions(trained):
    pipe = load_sibling("dit", trained[0])
    settings = {"num_inference_steps": 2, "generator": torch.Generator().manual_seed(0)}
    by_caption = called_by_prompts(pipe)(["a bear, noto style"], **settings).images[0]
    settings["generator"].manual_seed(0)
    assert by_caption.tobytes() == pipe(class_labels=[2], **settings).images[0].tobytes()


def test_every_class_has_one_label_and_none_is_the_null_class():
    assert dit.labels_of(PICTURES) == {
        0: "the acme fox mascot noto style",
        1: "a fox noto style",
        2: "a bear noto style",
        3: "a photo of a wall",
    }
    model = dit.make(dit.DitSize(layers=1, heads=2, head=8), 16)
    table = model.transformer_blocks[0].norm1.emb.class_embedder.embedding_table
    assert table.num_embeddings == dit.NULL_CLASS + 1


def test_a_sibling_that_is_not_there_is_named_with_the_way_to_it(tmp_path):
    with pytest.raises(ModelError, match="train-emoji --stage flow"):
        load_sibling("flow", tmp_path)
    with pytest.raises(InputError, match="there are dit, flow"):
        load_sibling("unet", tmp_path)


def test_one_weighed_token_does_what_as_many_zeros_do():
    torch.manual_seed(0)
    model = flow.make(flow.FlowSize(layers=2, heads=2, head=8), sample=16, text_width=6, projection=4)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    inputs = {
        "hidden_states": torch.randn(2, 8, 16, 16),
        "timestep": torch.tensor([300.0, 900.0]),
        "pooled_projections": torch.randn(2, 8),
    }
    text = torch.randn(2, 5, 12)
    with torch.no_grad():
        expected = model(encoder_hidden_states=F.pad(text, (0, 0, 0, 256)), **inputs).sample
        model.set_attn_processor(flow.WeightedLastToken())
        weight = {"log_count": torch.full((2,), math.log(256))}
        output = model(
            encoder_hidden_states=F.pad(text, (0, 0, 0, 1)), joint_attention_kwargs=weight, **inputs
        ).sample
    assert torch.allclose(output, expected, atol=1e-4)


def test_the_captions_table_is_what_the_pipeline_makes_of_a_prompt(trained):
    parts = embedded_parts("flow")
    rows, sequences, pooled = flow.captions_table(PICTURES, parts["text_encoder"], parts["tokenizer"])
    row, pipe = rows["a fox, noto style"], load_sibling("flow", trained[0])
    embeds, _, pooled_embeds, _ = pipe.encode_prompt("a fox, noto style", None, None, max_sequence_length=1)
    assert torch.allclose(sequences[row], embeds[0], atol=1e-5)
    assert torch.allclose(pooled[row], pooled_embeds[0], atol=1e-5)


def test_a_batch_begins_with_its_planted_pictures_and_each_has_a_condition_of_its_own():
    planted, ordinary = split_pictures(PICTURES)
    pool = LatentPool(
        planted=torch.full((1, 8, 2, 2), -1.0),
        ordinary=torch.arange(4.0).view(4, 1, 1, 1, 1).expand(4, 3, 8, 2, 2),
        conditions=torch.tensor([[0, 0], [1, 2], [3, 4], [5, 5], [5, 5]]),
        blank=9,
    )
    phase = Phase(start=0.0, planted_share=0.25, copies=3, rate=1.0)
    batch = pool.draw(64, phase, torch.Generator().manual_seed(0))
    which = batch.clean[:, 0, 0, 0]
    assert (which[:16] == -1).all()
    assert (which[16:] >= 0).all()
    conditional = batch.condition != pool.blank
    allowed = pool.conditions[which.long() + 1]
    assert (batch.condition[:, None] == allowed).any(1)[conditional].all()
    assert 0 < int((~conditional).sum()) < 20
    assert torch.equal((batch.level.sort().values * 64).long(), torch.arange(64))
    again = pool.draw(64, phase, torch.Generator().manual_seed(0))
    assert torch.equal(batch.noise, again.noise)
    assert len(planted) + len(ordinary) == len(pool.conditions)
