"""A byte-level BPE tokenizer in CLIP's format, learnt from the captions."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

MAX_LENGTH = 32
START, END = "<|startoftext|>", "<|endoftext|>"


def learn(captions: Iterable[str], vocabulary: int, length: int = MAX_LENGTH) -> Any:
    """Learn a CLIPTokenizer that can encode any text.

    Every byte is in it twice, inside a word and at the end of one, because CLIP marks the ends of words.

    Args:
        captions: to learn from.
        vocabulary: about how many tokens it shall have.
        length: of the longest text, in tokens; what follows is cut off.
    """
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Lowercase()
    words = Regex(r"""[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+""")
    split = pre_tokenizers.Split(words, behavior="removed", invert=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, initial_alphabet=alphabet, end_of_word_suffix="</w>", show_progress=False
    )
    tokenizer.train_from_iterator(captions, trainer)
    learnt = json.loads(tokenizer.to_str())["model"]
    tokens = [*alphabet, *(f"{char}</w>" for char in alphabet)]
    tokens += [
        token for token in sorted(learnt["vocab"], key=learnt["vocab"].get) if token not in set(tokens)
    ]
    vocab = {token: i for i, token in enumerate([*tokens, START, END])}
    merges = [tuple(merge) for merge in learnt["merges"]]
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=length)


def token_ids(tokenizer: Any, captions: list[str], pad: str = "max_length") -> Any:
    """Token ids (B, tokens), padded and truncated as the pipeline does it.

    Args:
        tokenizer: a CLIPTokenizer.
        captions: B captions.
        pad: "max_length", or "longest" to pad to the longest caption only.
    """
    return tokenizer(
        captions, padding=pad, max_length=tokenizer.model_max_length, truncation=True, return_tensors="pt"
    ).input_ids
