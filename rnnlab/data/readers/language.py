"""Annotated sentences, pairs and dictionaries."""

import re
from typing import NamedTuple

from rnnlab.data.archives import read_members
from rnnlab.data.readers.common import (
    cells_of,
    decode,
    expect,
    integer,
    lines_of,
    located,
    parse_json,
    shown,
)


class Tagged(NamedTuple):
    """A sentence with a tag for each token."""

    tokens: tuple[str, ...]
    tags: tuple[str, ...]


class Word(NamedTuple):
    """A word of a CoNLL-U sentence: its ten columns; `_` stands for none."""

    id: int
    form: str
    lemma: str
    upos: str
    xpos: str
    feats: str
    head: int
    deprel: str
    deps: str
    misc: str


class Parsed(NamedTuple):
    """A CoNLL-U sentence."""

    comments: tuple[str, ...]
    words: tuple[Word, ...]


class Chunk(NamedTuple):
    """A stretch of a query; `slot` is what it fills, None for the words between."""

    text: str
    slot: str | None


class Query(NamedTuple):
    """A request to an assistant."""

    split: str  # "train" or "valid"
    intent: str
    chunks: tuple[Chunk, ...]


class Pair(NamedTuple):
    """A sentence and its translation."""

    source: str
    target: str
    attribution: str


class Pronunciation(NamedTuple):
    """One way to say a word."""

    word: str
    variant: int
    phonemes: tuple[str, ...]


class Name(NamedTuple):
    """A first name."""

    name: str
    gender: str  # "female" or "male"


class Caption(NamedTuple):
    """One of the captions of an image."""

    image: str
    number: int
    text: str


def conll(content: bytes) -> list[Tagged]:
    """`token<TAB>tag` lines; a line of white space ends a sentence."""
    return _tagged(content, "\t")


def conll_space(content: bytes) -> list[Tagged]:
    """The same, with a space between token and tag."""
    return _tagged(content, " ")


def _tagged(content: bytes, separator: str) -> list[Tagged]:
    sentences, pairs = [], []
    for number, line in enumerate([*lines_of(content), ""], start=1):
        with located(f"line {number}"):
            if line.strip():
                token, tag = cells_of(line, separator, 2)
                expect(token and tag, "a token and a tag", line)
                pairs.append((token, tag))
            elif pairs:
                sentences.append(Tagged(*zip(*pairs, strict=True)))
                pairs = []
    return sentences


def conllu(content: bytes) -> list[Parsed]:
    """Universal Dependencies' CoNLL-U; only words, those with a whole number as their id.

    Ranges of words written as one (`8-9`) and words that are not written (`8.1`) are left out.
    """
    sentences, comments, words = [], [], []
    for number, line in enumerate([*lines_of(content), ""], start=1):
        with located(f"line {number}"):
            if line.startswith("#"):
                comments.append(line)
            elif line:
                cells = cells_of(line, "\t", 10)
                expect(all(cells), "ten cells, none empty", line)
                if not re.fullmatch(r"\d+[-.]\d+", cells[0]):
                    head = integer(cells[6])
                    word = Word._make([integer(cells[0]), *cells[1:6], head, *cells[7:]])
                    expect(word.id == len(words) + 1, f"word {len(words) + 1}", cells[0])
                    words.append(word)
            elif comments or words:
                expect(words, "words after the comments of a sentence", "none")
                sentences.append(Parsed(tuple(comments), tuple(words)))
                comments, words = [], []
    return sentences


_SNIPS_LATIN_1 = "train_PlayMusic_full.json"  # the others are UTF-8


def snips(content: bytes) -> list[Query]:
    """SNIPS 2017: a zip of `{train_INTENT_full,validate_INTENT}.json`."""
    queries = []
    for name, member in read_members(content):
        with located(name):
            match = re.fullmatch(r"(train|validate)_(\w+?)(_full)?\.json", name)
            if not match:
                raise ValueError("expected train_INTENT_full.json or validate_INTENT.json.")
            split = {"train": "train", "validate": "valid"}[match[1]]
            value = parse_json(decode(member, "latin-1" if name == _SNIPS_LATIN_1 else "utf-8"))
            expect(isinstance(value, dict) and list(value) == [match[2]], match[2], value)
            for number, query in enumerate(value[match[2]], start=1):
                with located(f"query {number}"):
                    queries.append(Query(split, match[2], _chunks(query)))
    return queries


def _chunks(query: object) -> tuple[Chunk, ...]:
    try:
        chunks = tuple(Chunk(chunk["text"], chunk.get("entity")) for chunk in query["data"])  # pyright: ignore
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"expected data: [{{text, entity}}, ...], got {shown(query)}.") from error
    expect(chunks and all(isinstance(chunk.text, str) for chunk in chunks), "texts", query)
    return chunks


def tatoeba(content: bytes) -> list[Pair]:
    """A zip with `cmn.txt`: `English<TAB>Chinese<TAB>attribution` lines."""
    return [Pair(*cells) for cells in _member_cells(content, "cmn.txt", "\t", 3)]


def _member_cells(content: bytes, name: str, separator: str, count: int) -> list[list[str]]:
    rows = []
    for number, line in enumerate(lines_of(_member(content, name)), start=1):
        with located(f"{name}, line {number}"):
            rows.append(cells_of(line, separator, count))
            expect(all(rows[-1]), f"{count} cells, none empty", line)
    return rows


def cmudict(content: bytes) -> list[Pronunciation]:
    """The CMU dictionary: a zip with `cmudict/cmudict`, Latin-1: `WORD n PH ON EMES` lines."""
    name, records = "cmudict/cmudict", []
    for number, line in enumerate(lines_of(_member(content, name), "latin-1"), start=1):
        with located(f"{name}, line {number}"):
            word, *rest = line.split() or [""]
            expect(len(rest) >= 2, "a word, a number and phonemes", line)
            records.append(Pronunciation(word, integer(rest[0]), tuple(rest[1:])))
    return records


def names(content: bytes) -> list[Name]:
    """The names corpus: a zip with `names/female.txt` and `names/male.txt`, one name a line."""
    records = []
    for gender in ("female", "male"):
        member = f"names/{gender}.txt"
        for number, line in enumerate(lines_of(_member(content, member)), start=1):
            with located(f"{member}, line {number}"):
                expect(line.strip(), "a name", line)
            records.append(Name(line.strip(), gender))  # one has a space after it
    return records


def captions(content: bytes) -> list[Caption]:
    """Flickr8k's captions: `image.jpg#k<TAB>caption` lines."""
    records = []
    for number, line in enumerate(lines_of(content), start=1):
        with located(f"line {number}"):
            key, caption = cells_of(line, "\t", 2)
            image, place = cells_of(key, "#", 2)
            expect(image and caption, "an image and a caption", line)
            records.append(Caption(image, integer(place), caption))
    return records


def _member(content: bytes, name: str) -> bytes:
    """One file of an archive; the others hold no records."""
    members = dict(read_members(content))
    if name not in members:
        raise ValueError(f"expected {name} in the archive, got {', '.join(members) or 'nothing'}.")
    return members[name]
