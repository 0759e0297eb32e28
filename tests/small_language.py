"""A language model of two layers with random weights, and a tokenizer of bytes in the ChatML format."""

from __future__ import annotations

from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def text_tokenizer() -> Any:
    """One token for each byte, and one for "ab"."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: number for number, letter in enumerate([*SPECIAL, *letters, "ab"])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[("a", "b")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=SPECIAL[0], eos_token=SPECIAL[2], bos_token=SPECIAL[1]
    )
    fast.add_special_tokens({"additional_special_tokens": SPECIAL})
    return fast


def language_model(width: int = 32, context: int = 2048, **options: Any) -> Any:
    """Random by the seed that is set."""
    config = LlamaConfig(
        vocab_size=len(SPECIAL) + 257,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=context,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        **options,
    )
    return LlamaForCausalLM(config).eval()


def seeded(call: Any, *arguments: Any, **options: Any) -> Any:
    """The call with random numbers of its own."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return call(*arguments, **options)
