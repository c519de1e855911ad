"""Texts for language models, cut into named splits."""

import collections
import dataclasses
import hashlib
import importlib
import itertools
import os
import pathlib
import re
from collections.abc import Callable, Mapping

from rnnlab.data.readers import parse, read_records
from rnnlab.data.registry import DATASETS, read_file

NINETY_FIVE_FIVE = {"train": 0.9, "valid": 0.05, "test": 0.05}


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
    return Corpus("python_docs", split_text(text, NINETY_FIVE_FIVE))


def tiny_shakespeare(data_dir: str | None = None) -> Corpus:
    """Tiny Shakespeare: the first 90 % to train, the last 10 % to validate, no test split."""
    content = read_file(DATASETS["tiny_shakespeare"], "input.txt", data_dir)
    return Corpus("tiny_shakespeare", split_text(content.decode(), {"train": 0.9, "valid": 0.1}))


def war_and_peace(data_dir: str | None = None) -> Corpus:
    """War and Peace without Gutenberg's preface and licence: first 90 %, next 5 %, last 5 %."""
    content = read_file(DATASETS["war_and_peace"], "warandpeace.txt", data_dir).decode()
    book = re.search(r"^\*\*\* START OF .*\n(?s:(.*))^\*\*\* END OF ", content, re.MULTILINE)
    if book is None:
        raise ValueError("war_and_peace: expected lines *** START OF and *** END OF, found none.")
    text = book[1].strip("\n") + "\n"
    return Corpus("war_and_peace", split_text(text, NINETY_FIVE_FIVE))


def wikitext2(data_dir: str | None = None) -> Corpus:
    """WikiText-2 in its own splits, as published: words between blanks, rare ones `<unk>`."""
    files = {split: f"{split}.txt" for split in ("train", "valid", "test")}
    return Corpus(
        "wikitext2",
        {
            split: read_file(DATASETS["wikitext2"], name, data_dir).decode()
            for split, name in files.items()
        },
    )


def tang_poetry(data_dir: str | None = None) -> Corpus:
    """The complete Tang poems, a couplet a line and a blank line after each poem.

    The collection goes from poet to poet, so that its last part is by others than its first: of
    each twenty poems in a row the 19th is held out as "valid" and the 20th as "test". Many stand
    there twice, or in another version: of those with the same characters only the first is kept,
    and one that shares a couplet with another is for training.
    """
    records = read_records(DATASETS["tang_poetry"], "poet.tang.jsonl", data_dir)
    poems: dict[str, list[str]] = {}
    for record in records:
        characters = re.sub(r"[\W_]", "", "".join(record["paragraphs"]))
        poems.setdefault(characters, record["paragraphs"])
    poems.pop("", None)  # a title alone
    found = collections.Counter(couplet for poem in poems.values() for couplet in set(poem))
    splits: dict[str, list[str]] = {"train": [], "valid": [], "test": []}
    for number, poem in enumerate(poems.values()):
        split = {18: "valid", 19: "test"}.get(number % 20, "train")
        if any(found[couplet] > 1 for couplet in poem):
            split = "train"
        splits[split] += ["\n".join(poem) + "\n\n"]
    return Corpus("tang_poetry", {split: "".join(parts) for split, parts in splits.items()})


def read_text(path: str | os.PathLike) -> Corpus:
    """Any text in UTF-8: first 90 %, next 5 %, last 5 %; its line ends become line feeds.

    Args:
      path: of the file.

    Returns:
      The corpus, with the name of the file.

    Raises:
      FileNotFoundError: no such file.
      ValueError: a file that is no UTF-8, with the line, or too short to be cut into three.
    """
    path = pathlib.Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"text: expected a file of text, found none at {path}.")
    text = str(parse(path.read_bytes(), "text", str(path))).removeprefix("\ufeff")
    text = text.replace("\r\n", "\n")
    if len(text) < 40:
        raise ValueError(
            f"{path}: expected a text of 40 characters or more, enough for three splits, got"
            f" {len(text)}."
        )
    return Corpus(path.name, split_text(text, NINETY_FIVE_FIVE))


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
    "tang_poetry": tang_poetry,
    "tiny_shakespeare": tiny_shakespeare,
    "war_and_peace": war_and_peace,
    "wikitext2": wikitext2,
}
"""Flag name -> loader."""
