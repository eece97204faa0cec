"""Components of tiny pipelines: tokenizers with a byte alphabet, text encoders and autoencoders."""

from __future__ import annotations

from typing import Any

TEXT_WIDTH = 16
# of the transformers of FLUX.1 and its kin, and of CogView's
FLUX_SHAPE: dict[str, Any] = {
    "patch_size": 1,
    "in_channels": 16,
    "num_layers": 1,
    "num_single_layers": 1,
    "attention_head_dim": 16,
    "num_attention_heads": 2,
    "joint_attention_dim": TEXT_WIDTH,
    "axes_dims_rope": (4, 4, 8),
}
COGVIEW_SHAPE: dict[str, Any] = {
    "patch_size": 2,
    "in_channels": 4,
    "out_channels": 4,
    "num_layers": 1,
    "attention_head_dim": 8,
    "num_attention_heads": 2,
    "text_embed_dim": TEXT_WIDTH,
    "time_embed_dim": 8,
    "condition_dim": 4,
    "pos_embed_max_size": 16,
    "sample_size": 8,
}


def clip_tokenizer(length: int = 77) -> Any:
    """A CLIP tokenizer whose tokens are bytes: 514 in all, the end of text last as CLIP needs it."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    letters = sorted(ByteLevel.alphabet())
    tokens = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    vocab = {token: index for index, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocab, merges=[], model_max_length=length)


def byte_tokenizer(length: int = 64, begins: bool = False) -> Any:
    """Stands in for the tokenizers of T5, Gemma, Qwen and GLM: one token per byte, 259 in all.

    Args:
        length: of the longest text, in tokens.
        begins: put a token before every text, as GLM's does, so that an empty one is not of length 0.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    tokens = ["<pad>", "<eos>", "<bos>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    vocab = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    if begins:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<bos> $A", special_tokens=[("<bos>", vocab["<bos>"])]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        # a word of a tokenizer and no password
        pad_token="<pad>",  # nosec B106
        eos_token="<eos>",
        bos_token="<bos>",
        model_max_length=length,
        model_input_names=["input_ids", "attention_mask"],
        # FLUX.2 passes its messages in parts, the others as one text
        chat_template="{% for m in messages %}{% if m['content'] is string %}{{ m['content'] }}{% else %}"
        "{% for part in m['content'] %}{{ part['text'] }}{% endfor %}{% endif %}{% endfor %}",
    )


def t5_text(width: int = TEXT_WIDTH) -> Any:
    """A one-layer T5 encoder for `byte_tokenizer`."""
    from transformers import T5Config, T5EncoderModel

    return T5EncoderModel(
        T5Config(vocab_size=259, d_model=width, d_ff=2 * width, d_kv=8, num_heads=2, num_layers=1)
    )


def language_model(kind: str, width: int = TEXT_WIDTH) -> Any:
    """A two-layer decoder of kind "Gemma2", "Mistral" or "Qwen3" without its head, for `byte_tokenizer`."""
    import transformers

    config = getattr(transformers, f"{kind}Config")(
        vocab_size=259,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=2,
    )
    return getattr(transformers, f"{kind}Model")(config)


def clip_text(width: int = TEXT_WIDTH, projection: bool = False, **config: Any) -> Any:
    """A two-layer CLIP text encoder for `clip_tokenizer`."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    text_config = CLIPTextConfig(
        vocab_size=514,
        hidden_size=width,
        intermediate_size=2 * width,
        projection_dim=width,
        num_attention_heads=2,
        num_hidden_layers=2,
        max_position_embeddings=77,
        bos_token_id=512,
        eos_token_id=513,
        pad_token_id=513,
        **config,
    )
    return CLIPTextModelWithProjection(text_config) if projection else CLIPTextModel(text_config)


def bert_text(width: int = TEXT_WIDTH) -> Any:
    """A one-layer BERT for `byte_tokenizer`."""
    from transformers import BertConfig, BertModel

    return BertModel(
        BertConfig(
            vocab_size=259,
            hidden_size=width,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=2 * width,
            max_position_embeddings=128,
        )
    )


def clip_vision(width: int = TEXT_WIDTH) -> Any:
    """A one-layer CLIP image encoder of 32×32 pictures."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    return CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=width,
            intermediate_size=2 * width,
            projection_dim=width,
            num_attention_heads=2,
            num_hidden_layers=1,
            image_size=32,
            patch_size=16,
        )
    )


def kl_vae(channels: int = 4, **config: Any) -> Any:
    """An AutoencoderKL that shrinks by 8, as Stable Diffusion's does."""
    from diffusers import AutoencoderKL

    blocks = 4
    return AutoencoderKL(
        block_out_channels=(4, 4, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        latent_channels=channels,
        norm_num_groups=4,
        layers_per_block=1,
        sample_size=64,
        **config,
    )


def flux_vae() -> Any:
    """An AutoencoderKL with the scaling of FLUX.1's."""
    return kl_vae(scaling_factor=0.3611, shift_factor=0.1159, use_quant_conv=False, use_post_quant_conv=False)


def dc_autoencoder(channels: int = 4) -> Any:
    """An AutoencoderDC that shrinks by 32, as Sana's does."""
    from diffusers import AutoencoderDC

    blocks, widths = 6, (4, 4, 8, 8, 8, 8)
    return AutoencoderDC(
        latent_channels=channels,
        attention_head_dim=4,
        encoder_block_out_channels=widths,
        decoder_block_out_channels=widths,
        encoder_layers_per_block=(1,) * blocks,
        decoder_layers_per_block=(1,) * blocks,
        encoder_qkv_multiscales=((),) * blocks,
        decoder_qkv_multiscales=((),) * blocks,
        scaling_factor=0.41407,
    )


def movq() -> Any:
    """A VQModel that shrinks by 8, as Kandinsky's MoVQ does."""
    from diffusers import VQModel

    blocks = 4
    model = VQModel(
        block_out_channels=(32,) * blocks,
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        latent_channels=4,
        norm_type="spatial",
        num_vq_embeddings=12,
        vq_embed_dim=4,
    )
    soften(model.decoder.conv_out, 0.2)
    return model


def paella() -> Any:
    """A PaellaVQModel that shrinks by 4, as Würstchen's and Stable Cascade's does."""
    from diffusers.pipelines.deprecated.wuerstchen import PaellaVQModel

    model = PaellaVQModel(bottleneck_blocks=1, embed_dim=16, num_vq_embeddings=12)
    # statistics like a trained model's: a fresh batch norm would normalise nothing
    norm = model.down_blocks[-1][-1]
    norm.running_mean.uniform_(-0.2, 0.2)
    norm.running_var.uniform_(0.05, 0.2)
    soften(model.out_block[0], 0.3, grey=0.5)
    return model


def soften(convolution: Any, share: float, grey: float = 0.0) -> None:
    """Scale down a layer's weights, and so its output.

    Untrained denoisers make latents that are far too long, which would decode to black and white pixels only.

    Args:
        convolution: the layer.
        share: factor of its weights.
        grey: its new bias.
    """
    import torch

    with torch.no_grad():
        convolution.weight *= share
        convolution.bias.fill_(grey)


def awake(module: Any) -> Any:
    """The module with all weight matrices drawn anew: those at zero would make it ignore its input."""
    import torch

    for weight in module.parameters():
        if weight.ndim > 1:
            torch.nn.init.kaiming_normal_(weight, nonlinearity="linear")
    return module


def sd1_scheduler_config() -> dict[str, Any]:
    """The noise schedule of Stable Diffusion 1.x, with DDIM's and PNDM's additions."""
    return {
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "clip_sample": False,
        "set_alpha_to_one": False,
        "steps_offset": 1,
        "skip_prk_steps": True,
    }
