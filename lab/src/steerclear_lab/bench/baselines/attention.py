"""Cross-attention recorded and changed by hooks inside a `with` block, for Ren et al. and GUARD.

Hooks add to the attention mask and scale keys; without either, the arithmetic is the model's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


def cross_attentions(unet: Any) -> list[Any]:
    """The modules in which the picture attends to the prompt."""
    return [
        module
        for name, module in unet.named_modules()
        if name.endswith("attn2") and getattr(module, "is_cross_attention", True)
    ]


@contextmanager
def changed_attention(
    unet: Any, rows: Sequence[int], bias: Tensor | None = None, first: float = 1.0
) -> Iterator[None]:
    """While it lasts, change how some rows of each batch attend to the prompt.

    Args:
        unet: the network.
        rows: of the batch.
        bias: (L,) added to each token's logit.
        first: factor of the first token's logit, applied to its key.
    """
    handles = []

    def mask(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        assert bias is not None
        added = bias.new_zeros(len(args[0]), 1, len(bias))
        added[list(rows)] = bias
        return args, {**kwargs, "attention_mask": added}

    def scale(module: Any, args: tuple[Any, ...], keys: Tensor) -> Tensor:
        scaled = keys.clone()
        scaled[list(rows), 0] *= first
        return scaled

    for module in cross_attentions(unet):
        if bias is not None and bool(bias.any()):
            handles.append(module.register_forward_pre_hook(mask, with_kwargs=True))
        if first != 1.0:
            handles.append(module.to_k.register_forward_hook(scale))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def recorded_attention(unet: Any, row: int) -> Iterator[list[Tensor]]:
    """Yields a list that fills with one row's attention to each token, (L,), averaged over heads and queries.

    Args:
        unet: the network; each evaluation adds one entry per cross-attention.
        row: of the batch.
    """
    attention: list[Tensor] = []
    queries: dict[Any, Tensor] = {}
    handles = []
    for module in cross_attentions(unet):

        def query(layer: Any, args: Any, output: Tensor, module: Any = module) -> None:
            queries[module] = output[row]

        def key(layer: Any, args: Any, output: Tensor, module: Any = module) -> None:
            heads, size = module.heads, output.shape[-1] // module.heads
            q = queries.pop(module).view(-1, heads, size).transpose(0, 1)
            k = output[row].view(-1, heads, size).transpose(0, 1)
            logits = q @ k.transpose(1, 2) * module.scale
            attention.append(logits.softmax(-1).mean((0, 1)).detach())

        handles += [module.to_q.register_forward_hook(query), module.to_k.register_forward_hook(key)]
    try:
        yield attention
    finally:
        for handle in handles:
            handle.remove()


def end_of(tokenizer: Any, prompt: str) -> int:
    """The index of the end token that closes the prompt, in the padded sequence."""
    length = int(tokenizer.model_max_length)
    ids = tokenizer(prompt, padding="max_length", max_length=length, truncation=True).input_ids
    return int(torch.tensor([i == tokenizer.eos_token_id for i in ids]).int().argmax())
