"""A request's arguments: what cannot be honoured is named, and what can reaches the pipeline and each image
as it was given.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from steerclear.errors import InputError
from steerclear.prompts import LONGEST_PROMPT, checked_prompts, unread
from steerclear.request import check_networks, checked_arguments, of_row, picture_size


class Pipeline:
    """Takes prompts."""

    scheduler = None

    def __call__(
        self,
        prompt=None,
        height=None,
        width=None,
        num_inference_steps=50,
        guidance_scale=7.5,
        num_images_per_prompt=1,
        negative_prompt=None,
        generator=None,
        output_type="pil",
        return_dict=True,
        image=None,
        strength=0.8,
        latents=None,
        prompt_embeds=None,
    ):
        raise AssertionError("nothing may be made of a request that is only checked")


class OneByOne(Pipeline):
    """Takes no number of images, and a strength that it names no default for."""

    def __call__(self, prompt=None, num_inference_steps=50, image=None, strength=None, generator=None):
        raise AssertionError


class Classes(Pipeline):
    """Takes class labels."""

    transformer = SimpleNamespace(config=SimpleNamespace(num_embeds_ada_norm=4))

    def __init__(self):
        self.labels = {"red fox": 1}

    def __call__(self, class_labels, num_inference_steps=50, generator=None):
        raise AssertionError


class Neither(Pipeline):
    def __call__(self, num_inference_steps=50):
        raise AssertionError


def seeded():
    return torch.Generator().manual_seed(1)


def checked(pipe=None, images=1, count=1, generator=None, **kwargs):
    return checked_arguments(
        pipe or Pipeline(),
        kwargs,
        images=images,
        prompts=count,
        generator=seeded() if generator is None else generator,
    )


def test_one_prompt_or_several_are_a_list_of_them():
    assert checked_prompts(Pipeline(), "a fox", {}) == ["a fox"]
    assert checked_prompts(Pipeline(), ("a fox", "an owl"), {}) == ["a fox", "an owl"]
    assert checked_prompts(Pipeline(), "x" * LONGEST_PROMPT, {}) == ["x" * LONGEST_PROMPT]
    assert LONGEST_PROMPT == 4000


@pytest.mark.parametrize(
    ("prompt", "named"),
    [
        (3, "the prompt 3 is neither a string"),
        (None, "no prompt was given"),
        ([], "no prompt was given"),
        ("", "'' is empty"),
        (" \n", "is empty"),
        (["a fox", " "], "' ' is empty"),
        (["a fox", None], "None is no text"),
        (["a fox", 3], "3 is no text"),
        (["a fox", "x" * (LONGEST_PROMPT + 1)], "4001 characters is too long; 4000 is the most"),
    ],
)
def test_what_is_no_prompt_is_named(prompt, named):
    with pytest.raises(InputError, match=named):
        checked_prompts(Pipeline(), prompt, {})


def test_class_labels_stand_for_prompts_by_their_names():
    assert checked_prompts(Classes(), None, {"class_labels": [0, 1, 3]}) == ["class 0", "red fox", "class 3"]
    nameless = Classes()
    nameless.transformer = SimpleNamespace(config=SimpleNamespace())  # ImageNet's thousand, then
    assert checked_prompts(nameless, None, {"class_labels": [999]}) == ["class 999"]
    with pytest.raises(InputError, match="class label 1000 is no whole number from 0 to 999"):
        checked_prompts(nameless, None, {"class_labels": [1000]})


@pytest.mark.parametrize(
    ("labels", "named"),
    [
        (None, "class_labels is None"),
        ([], r"class_labels is \[\]"),
        (1, "class_labels is 1"),
        ((1,), r"class_labels is \(1,\)"),
        ([1, 4], "class label 4 is no whole number from 0 to 3"),
        ([-1], "class label -1"),
        ([1.0], r"class label 1\.0"),
        (["red fox"], "class label 'red fox'"),
    ],
)
def test_what_is_no_class_label_is_named(labels, named):
    with pytest.raises(InputError, match=named):
        checked_prompts(Classes(), None, {"class_labels": labels})


def test_a_prompt_for_classes_and_a_pipeline_that_takes_neither_are_refused():
    with pytest.raises(InputError, match=r"Classes takes no prompt; pass class_labels=\[…\]"):
        checked_prompts(Classes(), "a fox", {"class_labels": [1]})
    with pytest.raises(InputError, match="Neither takes neither a prompt nor class labels"):
        checked_prompts(Neither(), None, {})


def test_arguments_reach_the_pipeline_as_they_were_given():
    generator = seeded()
    given = {
        "guidance_scale": 4.0,
        "num_inference_steps": 1,
        "negative_prompt": "a cat",
        "height": 64,
        "width": 32,
    }
    plain = checked(images=2, generator=generator, **given, output_type=None, return_dict=None)
    assert plain == {**given, "num_images_per_prompt": 2, "generator": generator}
    assert checked(generator=[generator], count=1)["generator"] == [generator]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"images": 0}, "num_images_per_prompt is 0"),
        ({"images": 1.0}, r"num_images_per_prompt is 1\.0"),
        ({"images": "2"}, "num_images_per_prompt is '2'"),
        ({"num_inference_steps": 0}, "num_inference_steps is 0"),
        ({"num_inference_steps": 2.0}, r"num_inference_steps is 2\.0"),
        ({"num_inference_steps": None}, "num_inference_steps is None"),
        ({"output_type": "jpeg"}, "output_type is 'jpeg'; there are pil, np, pt, latent"),
        ({"latents": 1}, "latents is 1; pass a tensor with noise for each of 1 images"),
        ({"latents": torch.zeros(2, 4, 8, 8)}, "latents is of 2 images"),
        ({"guidence": 1}, "Pipeline takes no guidence"),
        ({"generator": 7}, "generator is int"),
        ({"generator": [7]}, "generator is list"),
        ({"generator": (seeded(),)}, "is tuple"),
        ({"generator": [seeded()], "count": 2}, "1 generators were given for 2 images"),
        ({"generator": [seeded()] * 2, "images": 3}, "2 generators were given for 3 images"),
        ({"generator": [seeded()] * 5, "count": 2, "images": 2}, "5 generators were given for 4 images"),
    ],
)
def test_what_cannot_be_honoured_is_named(options, named):
    with pytest.raises(InputError, match=named):
        checked(**options)


@pytest.mark.parametrize(
    ("pipe", "options", "refused"),
    [
        (Pipeline(), {"strength": 0.4, "num_inference_steps": 2}, True),
        (Pipeline(), {"strength": 0.5, "num_inference_steps": 2}, False),
        (Pipeline(), {"strength": 1, "num_inference_steps": 1}, False),
        (Pipeline(), {"num_inference_steps": 1}, True),  # the pipeline's own strength is 0.8
        (Pipeline(), {"num_inference_steps": 2}, False),
        (Pipeline(), {"strength": 0.01}, True),  # of 50 steps
        (Pipeline(), {"strength": 0.02}, False),
        (Pipeline(), {"image": None, "strength": 0.1, "num_inference_steps": 2}, False),  # begins from noise
        (OneByOne(), {"num_inference_steps": 1}, False),  # a strength that is not known
        (OneByOne(), {"strength": 0.1, "num_inference_steps": 2}, True),
    ],
)
def test_a_strength_that_leaves_no_step_is_named_where_a_picture_is_begun_from(pipe, options, refused):
    options = {"image": "a picture", **options}
    if refused:
        with pytest.raises(InputError, match=r"steps at a strength of .* are not even one step"):
            checked(pipe, **options)
    else:
        assert checked(pipe, **options)["image"] == options["image"]


def test_a_pipeline_that_makes_one_image_at_a_time_is_asked_for_one():
    generator = seeded()
    assert checked(OneByOne(), generator=generator) == {"generator": generator}
    with pytest.raises(InputError, match="OneByOne takes no num_images_per_prompt"):
        checked(OneByOne(), images=2)


def test_each_image_has_its_own_prompts_arguments_and_shares_the_others():
    tensor, pictures = torch.arange(6).reshape(2, 3), torch.zeros(2, 3, 4, 4)
    both = {
        "negative_prompt": ["a", "b"],
        "negative_prompt_2": ("c", "d"),
        "image": [Image.new("L", (1, 1), 1), Image.new("L", (1, 1), 2)],
        "control_image": [np.zeros((4, 4, 3)), np.ones((4, 4, 3))],
        "an_argument_of_a_new_pipeline": ["e", "f"],
        "class_labels": [5, 6],
        "negative_prompt_embeds": tensor,
        "image_embeddings": tensor,
        "mask_image": pictures,
    }
    shared = {
        "guidance_scale": 4.0,
        "sigmas": [1.0, 0.5],
        "timesteps": tensor,
        "original_size": [64, 64],
        "controlnet_conditioning_scale": [0.5, 1.0],
        "ip_adapter_image": [Image.new("L", (1, 1)), Image.new("L", (1, 1))],
        "callback_on_step_end_tensor_inputs": ["latents", "prompt_embeds"],
        "cross_attention_kwargs": {"a": 1},
        "padding_mask_crop": None,
    }
    row = of_row({**both, **shared}, 1, 2)
    assert {name: row[name] for name in shared} == shared
    assert [row["negative_prompt"], row["negative_prompt_2"]] == ["b", "d"]
    assert row["an_argument_of_a_new_pipeline"] == "f"
    assert row["image"].getpixel((0, 0)) == 2
    assert row["control_image"].sum() == 48
    assert row["class_labels"] == [6]
    assert torch.equal(row["negative_prompt_embeds"], tensor[1:])
    assert torch.equal(row["image_embeddings"], tensor[1:])
    assert row["mask_image"].shape == (1, 3, 4, 4)


def test_what_holds_for_all_prompts_stays_whole():
    picture, texts = torch.zeros(3, 8, 8), ["a", "b"]
    assert of_row({"negative_prompt": "one for all"}, 0, 2)["negative_prompt"] == "one for all"
    assert of_row({"image": picture}, 1, 3)["image"] is picture  # three channels, not three prompts
    assert of_row({"image": torch.arange(2)}, 1, 2)["image"].shape == (2,)
    assert of_row({"negative_prompt": texts}, 1, 3)["negative_prompt"] is texts


def test_several_prompts_with_several_control_networks_are_refused():
    pipe = SimpleNamespace(controlnet=SimpleNamespace(nets=[1, 2]))
    check_networks(pipe, 1)
    check_networks(SimpleNamespace(controlnet=SimpleNamespace(nets=[1])), 2)
    with pytest.raises(InputError, match="several networks in its controlnet"):
        check_networks(pipe, 2)


def test_telling_a_call_apart_leaves_the_callers_arguments_alone():
    given = {"negative_prompt": ["a", "b"]}
    of_row(given, 0, 2)
    assert given == {"negative_prompt": ["a", "b"]}


@pytest.mark.parametrize(
    ("kwargs", "size"),
    [
        ({"height": 64, "width": 32}, (64, 32)),
        ({"height": 64.0, "width": 32}, (64, 32)),
        ({}, None),
        ({"height": 64}, None),
        ({"width": 64}, None),
        ({"height": None, "width": 64}, None),
    ],
)
def test_the_size_of_a_picture_is_known_where_the_caller_names_both_sides(kwargs, size):
    assert picture_size(kwargs) == size


class Words:
    """A tokenizer of words, of which two are its own marks."""

    def __init__(self, length):
        self.model_max_length = length

    def __call__(self, text, add_special_tokens=True, verbose=True):
        assert not add_special_tokens
        assert not verbose
        return SimpleNamespace(input_ids=text.split())

    def num_special_tokens_to_add(self):
        return 2

    def decode(self, words):
        return " " + " ".join(words)


class CLIPText: ...


class T5Text: ...


class Llama: ...


def reading(**encoders):
    """A pipeline whose encoders, by the end of their name, read so many words."""

    class Reading(Pipeline):
        def __call__(self, prompt=None, max_sequence_length=6):
            raise AssertionError

    pipe = Reading()
    for end, (encoder, length) in encoders.items():
        setattr(pipe, f"text_encoder{end}", encoder)
        setattr(pipe, f"tokenizer{end}", None if length is None else Words(length))
    return pipe


PROMPT = "one two three four five"


def test_what_no_text_encoder_reads_is_the_end_of_the_prompt():
    assert unread(reading(**{"": (CLIPText(), 5)}), PROMPT, {}) == "four five"
    assert unread(reading(**{"": (CLIPText(), 6)}), PROMPT, {}) == "five"
    assert unread(reading(**{"": (CLIPText(), 7)}), PROMPT, {}) is None
    assert unread(reading(**{"": (CLIPText(), 1)}), PROMPT, {}) == PROMPT  # no room but for the marks


def test_what_the_most_patient_encoder_reads_is_read():
    assert unread(reading(**{"": (CLIPText(), 4), "_2": (CLIPText(), 6)}), PROMPT, {}) == "five"
    # the shorter end, and not the one that comes first in the alphabet
    assert (
        unread(reading(**{"": (CLIPText(), 2), "_2": (CLIPText(), 3)}), PROMPT, {}) == "two three four five"
    )
    assert (
        unread(reading(**{"": (CLIPText(), 4), "_2": (CLIPText(), 6), "_3": (CLIPText(), 9)}), PROMPT, {})
        is None
    )
    assert (
        unread(reading(**{"": (None, 4), "_2": (CLIPText(), None), "_3": (CLIPText(), 6)}), PROMPT, {})
        == "five"
    )


def test_a_t5_reads_as_much_as_the_call_asks_for():
    pipe = reading(**{"": (T5Text(), 100)})
    assert unread(pipe, PROMPT, {}) == "five"  # of the call's own 6
    assert unread(pipe, PROMPT, {"max_sequence_length": 5}) == "four five"
    assert unread(pipe, PROMPT, {"max_sequence_length": None}) is None
    assert unread(reading(**{"": (CLIPText(), 5)}), PROMPT, {"max_sequence_length": 100}) == "four five"


def test_a_t5_whose_call_knows_no_length_reads_what_its_tokenizer_does():
    pipe = Pipeline()
    pipe.tokenizer, pipe.text_encoder = Words(5), T5Text()
    assert unread(pipe, PROMPT, {"max_sequence_length": 100}) == "four five"


def test_nothing_is_said_of_encoders_that_are_not_known():
    assert unread(reading(), PROMPT, {}) is None
    assert unread(reading(**{"": (CLIPText(), 4), "_2": (Llama(), 4)}), PROMPT, {}) is None
