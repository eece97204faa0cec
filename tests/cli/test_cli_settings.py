"""The settings of `generate`: each reaches the pipeline, stands in the recipe, and is repeated."""

from __future__ import annotations

import pytest
import torch
from cli_doubles import COPIED, ORDINARY, STEPS, TOGETHER
from diffusers import EulerDiscreteScheduler
from PIL import Image

from steerclear.cli.recipe import Recipe
from steerclear.output import read_png, save_png
from steerclear.pipelines import load_pipeline
from steerclear.steering.seeds import derive, generators
from steerclear.testing import tiny_pipeline


def test_size_scheduler_and_negative_prompt_give_the_plain_pipelines_picture_and_are_replayed(
    run, here, assets
):
    words = ("--negative-prompt", "a cat", "--width", "72", "--scheduler", "EulerDiscreteScheduler")
    assert run("generate", ORDINARY, *words, "--seeds", "3", *TOGETHER).code == 0
    pipe = load_pipeline(assets / "model")
    pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config)
    plain = pipe(
        ORDINARY,
        negative_prompt="a cat",
        height=64,
        width=72,
        num_inference_steps=STEPS,
        guidance_scale=4.0,
        generator=torch.Generator().manual_seed(3),
    ).images[0]
    picture, recipe = read_png(here / "out" / "0000-3.png")
    assert picture.tobytes() == plain.tobytes()
    assert (recipe["width"], recipe["height"], recipe["negative_prompt"]) == (72, None, "a cat")
    assert run("replay", "out/0000-3.png").code == 0


def test_pictures_made_together_have_names_of_their_own_and_are_replayed_each(run, here, assets):
    words = ("--images-per-prompt", "2", "--batch", "2", "--negative-prompt", "a cat")
    assert run("generate", ORDINARY, COPIED, *words, *TOGETHER).code == 0
    names = [path.name for path in sorted((here / "out").glob("*.png"))]
    assert names == ["0000-0-0.png", "0000-0-1.png", "0001-0-0.png", "0001-0-1.png"]
    seeds = [0, derive(0, "image", 1)] * 2
    plain = load_pipeline(assets / "model")(
        [ORDINARY, ORDINARY, COPIED, COPIED],
        negative_prompt=["a cat"] * 4,
        num_inference_steps=STEPS,
        guidance_scale=4.0,
        generator=generators(seeds),
    ).images
    for name, image in zip(names, plain, strict=True):
        picture, recipe = read_png(here / "out" / name)
        assert recipe["outcome"] == "steered" or picture.tobytes() == image.tobytes()
        assert recipe["together"][recipe["image"]] == {"prompt": recipe["prompt"], "seed": recipe["seed"]}
        assert run("replay", f"out/{name}").stdout.startswith(f"out/{name} is bit-identical")
    assert len((here / "out" / "report.jsonl").read_text().splitlines()) == 4


def test_a_variant_and_a_type_of_weights_are_replayed(run, here):
    tiny_pipeline().to(torch.float16).save_pretrained(here / "half", variant="fp16")
    words = ("--model", "half", "--variant", "fp16", "--dtype", "bfloat16")
    assert run("generate", ORDINARY, *words, *TOGETHER).code == 0
    recipe = read_png(here / "out" / "0000-0.png")[1]
    assert (recipe["variant"], recipe["dtype"]) == ("fp16", "bfloat16")
    assert run("replay", "out/0000-0.png").code == 0


def lora_file(path, seed):
    """A LoRA for the tiny U-Net's attention, in diffusers' own layout."""
    from safetensors.torch import save_file

    tensors, generator = {}, torch.Generator().manual_seed(seed)
    for name, module in tiny_pipeline().unet.named_modules():
        if name.endswith(("to_q", "to_v")):
            for part, shape in (("A", (2, module.in_features)), ("B", (module.out_features, 2))):
                tensors[f"unet.{name}.lora_{part}.weight"] = torch.randn(shape, generator=generator)
    save_file(tensors, path)
    return path


def test_a_lora_changes_the_picture_and_is_replayed_only_from_a_file_that_the_user_gives(run, here):
    pytest.importorskip("peft")
    lora_file(here / "style.safetensors", 1)
    assert run("generate", ORDINARY, *TOGETHER).code == 0
    plain = (here / "out" / "0000-0.png").read_bytes()
    result = run("generate", ORDINARY, "--lora", "style.safetensors:0.5", *TOGETHER)
    assert (result.code, result.stderr) == (0, "")
    assert read_png(here / "out" / "0000-0.png")[0].tobytes() != plain
    lora = read_png(here / "out" / "0000-0.png")[1]["loras"][0]
    assert (lora["file"], lora["scale"]) == ("style.safetensors", 0.5)
    moved = (here / "style.safetensors").rename(here / "moved.safetensors")
    assert run("replay", "out/0000-0.png", "--lora", moved).code == 0


def test_no_lora_is_loaded_because_a_picture_names_it(run, here):
    lora_file(here / "style.safetensors", 1)
    other = lora_file(here / "other.safetensors", 2)
    assert run("generate", ORDINARY, *TOGETHER).code == 0
    image, recipe = read_png(here / "out" / "0000-0.png")
    named = {"file": "style.safetensors", "sha256": "0" * 16, "scale": 1.0}
    save_png(here / "named.png", image, {**recipe, "loras": [named]})
    result = run("replay", "named.png")
    assert result.code == 2
    assert (
        "was made with the LoRA 'style.safetensors' of SHA-256 0000000000000000…; pass --lora"
        in result.stderr
    )
    assert "pass --lora" in run("replay", "named.png", "--lora", other).stderr
    assert "does not name the LoRA" in run("replay", "out/0000-0.png", "--lora", other).stderr


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--height", "0"), "height is 0; it must be a whole number of pixels"),
        (("--height", "tall"), "'tall' is no whole number"),
        (("--width", "65"), "divisible by 8"),
        (("--scheduler", "EulerScheduler"), "no scheduler 'EulerScheduler' in diffusers; did you mean Euler"),
        (("--scheduler", "UNet2DModel"), "there is no scheduler 'UNet2DModel'"),
        (
            ("--lora", "none.safetensors:0.5"),
            "there is no LoRA file 'none.safetensors'; give FILE or FILE:SCALE",
        ),
        (("--lora", "weights.bin"), "is no .safetensors file"),
        (
            ("--lora", "empty.safetensors:much"),
            "the scale 'much' of the LoRA 'empty.safetensors' is no number",
        ),
        (("--lora", "empty.safetensors:nan"), "the scale of the LoRA 'empty.safetensors' is nan"),
        (("--lora", "empty.safetensors"), "the LoRA 'empty.safetensors' cannot be loaded"),
        (("--images-per-prompt", "0"), "--images-per-prompt is 0; give a whole number from 1"),
        (("--batch", "-1"), "--batch is -1"),
        (("--dtype", "half"), "dtype 'half' is unknown; there are auto, float32, float16, bfloat16"),
        (("--offload", "all"), "offload 'all' is unknown; there are model, sequential"),
        (("--offload", "model"), "pass --device cuda as well"),
        (("--variant", "fp16"), "cannot be loaded as a diffusers pipeline"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named_in_one_line(run, here, words, named):
    (here / "weights.bin").write_bytes(b"")
    (here / "empty.safetensors").write_bytes(b"")
    result = run("generate", ORDINARY, *words, *TOGETHER)
    assert (result.code, result.stdout) == (2, "")
    assert named in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("height", "64"),
        ("width", 0),
        ("negative_prompt", None),
        ("scheduler", "os"),
        ("loras", [{"file": "x", "sha256": "y"}]),
        ("together", [{"prompt": "another", "seed": 0}]),
        ("image", 1.5),
        ("dtype", "half"),
        ("offload", "disk"),
        ("compile", 1),
    ],
)
def test_a_damaged_setting_in_a_recipe_is_named_by_its_field(run, here, field, value):
    undamaged = Recipe(prompt="a bear", steps=2, budget=8.0, outcome="clear").to_dict()
    save_png(here / "picture.png", Image.new("RGB", (8, 8)), {**undamaged, field: value})
    result = run("replay", "picture.png")
    assert (result.code, result.stdout) == (2, "")
    assert field in result.stderr
    assert result.stderr.count("\n") == 1
