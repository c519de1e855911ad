"""Texts for language models, cut into named splits."""

import dataclasses
import hashlib
import importlib
import itertools
from collections.abc import Callable, Mapping

from rnnlab.data.registry import DATASETS, read_file


@dataclasses.dataclass(frozen=True)
class Corpus:
    """A text and its splits.

    Attributes:
      name: how flags call it.
      splits: "train", "valid" and, where the data set has one, "test" -> its text.
    """

    name: str
    splits: Mapping[str, str]

    def fingerprint(self) -> dict[str, str]:
        """Split -> SHA-256 of its text; what a run was trained on, to the byte."""
        return {
            split: hashlib.sha256(text.encode()).hexdigest() for split, text in self.splits.items()
        }


def load_corpus(name: str, data_dir: str | None = None) -> Corpus:
    """Loads one of `CORPORA` by name, looking for its files as `registry.read_file` does."""
    if name not in CORPORA:
        raise ValueError(f"corpus: expected one of {', '.join(CORPORA)}, got {name!r}.")
    return CORPORA[name](data_dir)


def python_docs(data_dir: str | None = None) -> Corpus:
    """Python's language reference, as every Python carries it: first 90 %, next 5 %, last 5 %.

    Its topics quote each other, so a paragraph that stands in several is kept only where it comes
    first; otherwise a sixth of the test split would also be training text. The text differs from
    one Python version to the next, and numbers belong to one.
    """
    del data_dir  # comes with Python
    try:
        topics = importlib.import_module("pydoc_data.topics").topics
    except ModuleNotFoundError as error:
        raise FileNotFoundError(
            "python_docs: expected this Python to come with pydoc_data, its own documentation, and"
            " found none. Install the full standard library, or use another --dataset."
        ) from error
    paragraphs = "\n\n".join(topics[name].strip("\n") for name in sorted(topics)).split("\n\n")
    text = "\n\n".join(dict.fromkeys(paragraphs)) + "\n"
    return Corpus("python_docs", split_text(text, {"train": 0.9, "valid": 0.05, "test": 0.05}))


def tiny_shakespeare(data_dir: str | None = None) -> Corpus:
    """Tiny Shakespeare: the first 90 % to train, the last 10 % to validate, no test split."""
    content = read_file(DATASETS["tiny_shakespeare"], "input.txt", data_dir)
    return Corpus("tiny_shakespeare", split_text(content.decode(), {"train": 0.9, "valid": 0.1}))


def split_text(text: str, shares: Mapping[str, float]) -> dict[str, str]:
    """Cuts a text into consecutive splits; together they are the text.

    Args:
      text: the whole text.
      shares: split -> its share of the characters, in order, adding up to 1.
    """
    if abs(sum(shares.values()) - 1) > 1e-9:
        raise ValueError(f"shares: expected shares that add up to 1, got {dict(shares)}.")
    cuts = [int(len(text) * share) for share in itertools.accumulate(shares.values())]
    starts, stops = [0, *cuts[:-1]], [*cuts[:-1], len(text)]  # the last takes the remainder
    return {name: text[i:j] for name, i, j in zip(shares, starts, stops, strict=True)}


CORPORA: Mapping[str, Callable[[str | None], Corpus]] = {
    "python_docs": python_docs,
    "tiny_shakespeare": tiny_shakespeare,
}
"""Flag name -> loader."""
