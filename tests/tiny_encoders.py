"""Tiny random text encoders, with tokenizers built from short lists of words and letters: what reads prompts."""

from typing import Any

import tokenizers
import transformers

WORDS = ["a", "red", "blue", "circle", "square", "moves", "stays", "left", "up"]
LETTERS = "abcdefghijklmnopqrstuvwxyz"
CHAT = "{% for one in messages %}{{ one['role'] }}\n{{ one['content'] }}\n{% endfor %}"
CHAT_OF_PARTS = "{% for one in messages %}{% for part in one['content'] %}{{ part['text'] }}\n{% endfor %}{% endfor %}"

EYES = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 8,
    "patch_size": 4,
}  # of the models that see pictures too, which nobody shows them here


def t5(
    config: Any = transformers.T5Config, model: Any = transformers.T5EncoderModel, width: int = 16
) -> tuple[Any, Any]:
    vocabulary = ["<pad>", "</s>", "<unk>", *(f"▁{word}" for word in WORDS)]
    tokenizer = transformers.T5Tokenizer(vocab=[(word, -float(i)) for i, word in enumerate(vocabulary)], extra_ids=0)
    return tokenizer, model(_t5(config, len(vocabulary) + 4, width)).eval()


def byt5(width: int) -> tuple[Any, Any]:
    return transformers.ByT5Tokenizer(), transformers.T5EncoderModel(_t5(transformers.T5Config, 384, width)).eval()


def _t5(config: Any, words: int, width: int) -> Any:
    return config(vocab_size=words, num_layers=1, num_heads=2, d_kv=8, d_ff=16, d_model=width)


def clip() -> tuple[Any, Any]:
    words = ["<|startoftext|>", "<|endoftext|>", *LETTERS, *(f"{letter}</w>" for letter in LETTERS)]
    tokenizer = transformers.CLIPTokenizer({word: i for i, word in enumerate(words)}, [], model_max_length=8)
    config = transformers.CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=12,
        intermediate_size=16,
        projection_dim=12,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=8,
        bos_token_id=0,
        eos_token_id=1,
    )
    return tokenizer, transformers.CLIPTextModelWithProjection(config).eval()


def decoder(words: int, layers: int = 2, width: int = 16) -> dict[str, Any]:
    """What the configurations of language models have in common."""
    return {
        "vocab_size": words,
        "hidden_size": width,
        "intermediate_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 8,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": 0,
    }


def qwen_tokenizer() -> Any:
    """Of single bytes."""
    alphabet = ["<|endoftext|>", *sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = transformers.Qwen2Tokenizer(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[])
    tokenizer.chat_template = CHAT
    return tokenizer


def qwen3() -> tuple[Any, Any]:
    tokenizer = qwen_tokenizer()
    return tokenizer, transformers.Qwen3Model(transformers.Qwen3Config(**decoder(len(tokenizer)))).eval()


def qwen25_vl() -> tuple[Any, Any]:
    tokenizer = qwen_tokenizer()
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16}
    config = transformers.Qwen2_5_VLConfig(text_config=_qwen25(tokenizer), vision_config=vision)
    return tokenizer, transformers.Qwen2_5_VLForConditionalGeneration(config).eval()


def qwen25_vl_text() -> tuple[Any, Any]:
    tokenizer = qwen_tokenizer()
    config = transformers.Qwen2_5_VLTextConfig(**_qwen25(tokenizer))
    return tokenizer, transformers.Qwen2_5_VLTextModel(config).eval()


def _qwen25(tokenizer: Any) -> dict[str, Any]:
    told = decoder(len(tokenizer))
    del told["head_dim"]  # is width / heads
    return told | {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]}}


def gemma3(layers: int = 1) -> tuple[Any, Any]:
    words = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<image>", "▁", *LETTERS]
    tokenizer = transformers.GemmaTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=[])
    config = transformers.Gemma3Config(
        text_config=decoder(len(words), layers), vision_config=EYES, mm_tokens_per_image=4, image_token_index=5
    )
    return tokenizer, transformers.Gemma3ForConditionalGeneration(config).eval()


def mistral3(layers: int) -> tuple[Any, Any]:
    """Flux 2's tokenizer is a PixtralProcessor, which wants torchvision: this is what it has within."""
    words = ["<pad>", "<unk>", "[IMG]", *WORDS]
    model = tokenizers.models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>")
    split = tokenizers.Tokenizer(model)
    split.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=split, pad_token="<pad>", unk_token="<unk>")
    tokenizer.chat_template = CHAT_OF_PARTS
    text = {"model_type": "mistral", **decoder(len(words), layers, width=8)}
    eyes = {"model_type": "pixtral", "head_dim": 8, **EYES}
    config = transformers.Mistral3Config(text_config=text, vision_config=eyes, image_token_index=2)
    return tokenizer, transformers.Mistral3ForConditionalGeneration(config).eval()
