"""Loading: folders of one variant, weights as they are stored, and checkpoints in a single file."""

from __future__ import annotations

import re
import shutil

import pytest
import torch
from safetensors.torch import save_file

from steerclear import Guard
from steerclear.errors import ModelError
from steerclear.pipelines import load_pipeline, stored_dtypes
from steerclear.testing import FakeEncoder, tiny_pipeline

CALL = {"prompt": "a fox", "num_inference_steps": 2}


def picture(pipe):
    return pipe(**CALL, generator=torch.Generator().manual_seed(1)).images[0].tobytes()


def in_original_layout(pipe):
    """The tensors of a tiny Stable Diffusion by the names in which CompVis published it: one level with a
    resnet and one with attention, each a single block deep.
    """
    unet = [
        (r"^conv_in\.", "input_blocks.0.0."),
        (r"^time_embedding\.linear_1\.", "time_embed.0."),
        (r"^time_embedding\.linear_2\.", "time_embed.2."),
        (r"^down_blocks\.0\.resnets\.0\.", "input_blocks.1.0."),
        (r"^down_blocks\.0\.downsamplers\.0\.conv\.", "input_blocks.2.0.op."),
        (r"^down_blocks\.1\.resnets\.0\.", "input_blocks.3.0."),
        (r"^down_blocks\.1\.attentions\.0\.", "input_blocks.3.1."),
        (r"^mid_block\.resnets\.0\.", "middle_block.0."),
        (r"^mid_block\.attentions\.0\.", "middle_block.1."),
        (r"^mid_block\.resnets\.1\.", "middle_block.2."),
        (r"^up_blocks\.0\.resnets\.(\d)\.", r"output_blocks.\1.0."),
        (r"^up_blocks\.0\.attentions\.(\d)\.", r"output_blocks.\1.1."),
        (r"^up_blocks\.0\.upsamplers\.0\.", "output_blocks.1.2."),
        (r"^up_blocks\.1\.resnets\.0\.", "output_blocks.2.0."),
        (r"^up_blocks\.1\.resnets\.1\.", "output_blocks.3.0."),
        (r"^conv_norm_out\.", "out.0."),
        (r"^conv_out\.", "out.2."),
        (r"(put_blocks\.\d\.0|middle_block\.[02])\.norm1\.", r"\1.in_layers.0."),
        (r"(put_blocks\.\d\.0|middle_block\.[02])\.conv1\.", r"\1.in_layers.2."),
        (r"(put_blocks\.\d\.0|middle_block\.[02])\.time_emb_proj\.", r"\1.emb_layers.1."),
        (r"(put_blocks\.\d\.0|middle_block\.[02])\.norm2\.", r"\1.out_layers.0."),
        (r"(put_blocks\.\d\.0|middle_block\.[02])\.conv2\.", r"\1.out_layers.3."),
        (r"\.conv_shortcut\.", ".skip_connection."),
    ]
    levels = len(pipe.vae.config.block_out_channels)
    vae = [
        (r"down_blocks\.(\d)\.resnets\.", r"down.\1.block."),
        (r"down_blocks\.(\d)\.downsamplers\.0\.", r"down.\1.downsample."),
        (r"up_blocks\.(\d)\.resnets\.", lambda m: f"up.{levels - 1 - int(m[1])}.block."),
        (r"up_blocks\.(\d)\.upsamplers\.0\.", lambda m: f"up.{levels - 1 - int(m[1])}.upsample."),
        (r"mid_block\.resnets\.0\.", "mid.block_1."),
        (r"mid_block\.resnets\.1\.", "mid.block_2."),
        (r"mid_block\.attentions\.0\.group_norm\.", "mid.attn_1.norm."),
        (r"mid_block\.attentions\.0\.to_([qkv])\.", r"mid.attn_1.\1."),
        (r"mid_block\.attentions\.0\.to_out\.0\.", "mid.attn_1.proj_out."),
        (r"conv_norm_out\.", "norm_out."),
        (r"\.conv_shortcut\.", ".nin_shortcut."),
    ]
    parts = [
        ("model.diffusion_model.", pipe.unet, unet),
        ("first_stage_model.", pipe.vae, vae),
        ("cond_stage_model.transformer.text_model.", pipe.text_encoder, []),
    ]
    checkpoint = {}
    for prefix, module, rules in parts:
        for name, tensor in module.state_dict().items():
            for pattern, replacement in rules:
                name = re.sub(pattern, replacement, name)
            checkpoint[prefix + name] = tensor.contiguous()
    return checkpoint


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model folder, and beside it the same weights in a single file."""
    folder = tmp_path_factory.mktemp("models")
    pipe = tiny_pipeline("sd1")
    pipe.save_pretrained(folder / "tiny")
    save_file(in_original_layout(pipe), folder / "tiny.safetensors")
    return folder


def test_a_checkpoint_in_a_single_file_makes_the_pictures_of_its_folder(folder, tmp_path):
    plain = picture(load_pipeline(folder / "tiny"))
    assert picture(load_pipeline(folder / "tiny.safetensors")) == plain  # its config lies beside it, by name
    alone = shutil.copy(folder / "tiny.safetensors", tmp_path / "alone.safetensors")
    with pytest.raises(ModelError, match=r"does not say which pipeline it is of; .* pass config="):
        load_pipeline(alone)
    assert picture(load_pipeline(alone, config=folder / "tiny")) == plain
    with pytest.raises(ModelError, match=r"is no \.safetensors file; others may run code"):
        load_pipeline(folder / "tiny" / "model_index.json")


def test_a_guard_of_a_single_file_hands_out_what_the_plain_pipeline_makes(folder, tmp_path):
    from steerclear.library import Library, add

    tiny_pipeline("sd1")(**CALL).images[0].save(tmp_path / "other.png")
    encoder = FakeEncoder(name="mine")
    library = Library.create(tmp_path / "library", [encoder])
    add(library, [tmp_path / "other.png"], [encoder])
    library.write_note("calibration", {"thresholds": {"nearest": 1.1, "pixel": 1.1, "tiled": 1.1}})
    file = folder / "tiny.safetensors"
    guard = Guard.from_pretrained(file, library=library, encoder=encoder, config=folder / "tiny")
    assert picture(guard) == picture(load_pipeline(file))


@pytest.mark.parametrize("variant", [None, "fp16"])
def test_weights_stay_in_the_type_that_they_are_stored_in_where_that_is_asked_for(tmp_path, variant):
    pipe = tiny_pipeline("sd1")
    pipe.unet.to(torch.bfloat16)
    pipe.text_encoder.to(torch.float16)
    pipe.save_pretrained(tmp_path, variant=variant)
    assert stored_dtypes(tmp_path, variant)["unet"] == torch.bfloat16
    kept = load_pipeline(tmp_path, torch_dtype="auto")  # and the only variant that is there
    types = [kept.unet.dtype, kept.text_encoder.dtype, kept.vae.dtype]
    assert types == [torch.bfloat16, torch.float16, torch.float32]
    assert load_pipeline(tmp_path).unet.dtype == torch.float32
    assert load_pipeline(tmp_path, variant=variant, torch_dtype=torch.float16).vae.dtype == torch.float16
    with pytest.raises(ModelError, match=r"torch_dtype is 'half'; pass a torch.dtype, or 'auto'"):
        load_pipeline(tmp_path, torch_dtype="half")


def test_of_several_variants_the_plain_one_is_taken_unless_another_is_named(tmp_path):
    plain, half = tiny_pipeline("sd1"), tiny_pipeline("sd1", seed=1).to(torch.float16)
    plain.save_pretrained(tmp_path)
    half.save_pretrained(tmp_path, variant="fp16")
    assert torch.equal(load_pipeline(tmp_path).unet.conv_in.weight, plain.unet.conv_in.weight)
    loaded = load_pipeline(tmp_path, variant="fp16").unet.conv_in.weight
    assert torch.equal(loaded, half.unet.conv_in.weight.float())
    assert stored_dtypes(tmp_path)["unet"] == torch.float32
    assert stored_dtypes(tmp_path, "fp16")["unet"] == torch.float16


def test_a_single_file_keeps_its_type_as_well(folder, tmp_path):
    half = {
        name: tensor.half()
        for name, tensor in in_original_layout(tiny_pipeline("sd1")).items()
        if tensor.is_floating_point()
    }
    save_file(half, tmp_path / "half.safetensors")
    pipe = load_pipeline(tmp_path / "half.safetensors", torch_dtype="auto", config=folder / "tiny")
    assert {pipe.unet.dtype, pipe.vae.dtype, pipe.text_encoder.dtype} == {torch.float16}
