"""A small language model for prompts of the shapes world, with nothing learned yet: a tokenizer and random weights."""

from collections.abc import Iterable
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from models.slots import SLOTS
from palate.config import Settings

PAD, END, ASK = "<|pad|>", "<|end|>", "<|ask|>"
THINK = ("<think>", "</think>")
# It has one task, so it is told no instructions: the system message is left out.
_TEMPLATE = (
    "{% for message in messages %}{% if message.role == 'user' %}{{ message.content }}" + ASK + "{% elif "
    "message.role == 'assistant' %}{{ message.content }}" + END + "{% endif %}{% endfor %}"
)


class TinyShape(Settings):
    """0.4 million parameters."""

    vocabulary: int = 512
    width: int = 96
    layers: int = 3
    heads: int = 4
    hidden: int = 288
    longest: int = 512


def tiny_tokenizer(texts: Iterable[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """Byte pairs learned from `texts`, and slots for handles. Any text can be written in them; digits stand alone."""
    tokenizer = Tokenizer(models.BPE())
    digits = pre_tokenizers.Digits(individual_digits=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - len((*THINK, *SLOTS)),
        special_tokens=[PAD, END, ASK],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    said = [AddedToken(tag, special=False) for tag in (*THINK, *SLOTS)]  # part of what is said, so they are shown
    tokenizer.add_tokens(said)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, eos_token=END, chat_template=_TEMPLATE, padding_side="left"
    )


def tiny_model(shape: TinyShape, tokenizer: Any, seed: int) -> Qwen3ForCausalLM:
    torch.manual_seed(seed)
    return Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(tokenizer),
            hidden_size=shape.width,
            intermediate_size=shape.hidden,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            num_key_value_heads=shape.heads,
            head_dim=shape.width // shape.heads,
            max_position_embeddings=shape.longest,
            tie_word_embeddings=True,
            initializer_range=shape.width**-0.5,  # Qwen3's 0.02 is for wide layers; in narrow ones little comes through
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            bos_token_id=None,
        )
    )
