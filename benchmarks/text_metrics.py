"""How near a text is to the one that was wanted: BLEU, ROUGE-L, METEOR and BERTScore, of libraries, each in 0..1."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nltk.translate.meteor_score import single_meteor_score
from torchmetrics.functional.text import rouge_score, sacre_bleu_score
from torchmetrics.functional.text.bert import bert_score

from palate.errors import CheckpointError


class _NoSynonyms:
    """In the place of WordNet, whose data no package carries: METEOR then pairs equal words and equal stems alone."""

    @staticmethod
    def synsets(_: str) -> list[Any]:
        return []


def bleu(said: str, wanted: str) -> float:
    """Of one text, up to four words, smoothed (SacreBLEU's words)."""
    return float(sacre_bleu_score([said], [[wanted]], smooth=True))


def rouge_l(said: str, wanted: str) -> float:
    """The F-measure of the longest common subsequence."""
    return float(rouge_score(said, wanted, rouge_keys="rougeL")["rougeL_fmeasure"])


def meteor(said: str, wanted: str) -> float:
    wordnet: Any = _NoSynonyms()
    return single_meteor_score(wanted.split(), said.split(), wordnet=wordnet)


def bertscore(said: Sequence[str], wanted: Sequence[str], model: Path) -> list[float]:
    """F1 of each pair on the last hidden states of a model of transformers, without idf and rescaling.

    Raises:
        CheckpointError: there is none in that folder.
    """
    if not (model / "config.json").exists():
        raise CheckpointError(f"{model} is no model", "give the folder of an encoder of transformers")
    found: Any = bert_score(list(said), list(wanted), model_name_or_path=str(model), truncation=True)
    return found["f1"].reshape(-1).tolist()
