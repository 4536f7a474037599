"""A language model of transformers that answers here, one question at a time."""

from threading import Lock
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from palate.errors import CheckpointError


class LocalModel:
    """A model with a chat template, from a folder or a hub's name.

    Raises:
        CheckpointError: there is none, or its tokenizer has no chat template.
    """

    def __init__(self, path: str, temperature: float, max_tokens: int) -> None:
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(path)
            self._model: Any = AutoModelForCausalLM.from_pretrained(path, dtype="auto").eval()
        except (OSError, ValueError) as error:
            said = " ".join(str(error).split())[:200]
            raise CheckpointError(f"{path} is no language model ({said})", "give the folder of one") from error
        if not self._tokenizer.chat_template:
            raise CheckpointError(f"the tokenizer of {path} has no chat template", "give a model tuned for chat")
        self._model.to("cuda" if torch.cuda.is_available() else "cpu")
        self._sampling = {"do_sample": True, "temperature": temperature} if temperature else {"do_sample": False}
        self._max_tokens = max_tokens
        self._lock = Lock()

    @torch.inference_mode()
    def answer(self, system: str, user: str, seed: int) -> tuple[str, int, int]:
        """What the model says, and how many tokens went in and came out."""
        messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
        asked = self._tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        ).to(self._model.device)
        length = asked["input_ids"].shape[1]
        with self._lock:  # the seed is the process's
            torch.manual_seed(seed)
            told = self._model.generate(**asked, max_new_tokens=self._max_tokens, **self._sampling)[0, length:]
        return self._tokenizer.decode(told, skip_special_tokens=True), length, len(told)
