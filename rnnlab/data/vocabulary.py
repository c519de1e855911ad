"""Vocabularies of characters and of words.

Where there are special tokens, they come first, in the order of `SPECIALS`.
"""

import collections
import dataclasses
import json
import re
from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np

from rnnlab.data.checks import check_count

SPECIALS = ("<pad>", "<unk>", "<bos>", "<eos>")
"""Padding, the unknown, and the beginning and the end of a sequence."""

UNK = SPECIALS.index("<unk>")


@dataclasses.dataclass(frozen=True)
class CharacterVocabulary:
    r"""The characters a model knows; the token of a character is its place among them.

    Attributes:
      characters: distinct, in the order of their code points.
      specials: whether the tokens of `SPECIALS` come before those of the characters. Then an
        unknown character is `<unk>`; if not, it is an error.

    Example:
        >>> vocabulary = CharacterVocabulary.from_text("hello")
        >>> vocabulary.characters
        'ehlo'
        >>> vocabulary.encode("hole")
        array([1, 3, 2, 0], dtype=int32)
        >>> vocabulary.decode([1, 3, 2, 0])
        'hole'
    """

    characters: str
    specials: bool = False

    def __post_init__(self):
        if list(self.characters) != sorted(set(self.characters)) or not self.characters:
            raise ValueError(
                "characters: expected one or more distinct characters in the order of their code"
                f" points, got {self.characters[:40]!r}. Use CharacterVocabulary.from_text(text)."
            )

    @classmethod
    def from_text(cls, *texts: str, specials: bool = False) -> "CharacterVocabulary":
        """The vocabulary of every character in `texts`."""
        return cls("".join(sorted(set().union(*texts))), specials)

    @classmethod
    def from_json(cls, content: str) -> "CharacterVocabulary":
        """Reads what `to_json` wrote."""
        fields = json.loads(content)
        return cls(fields["characters"], fields.get("specials", False))

    def to_json(self) -> str:
        """The vocabulary as a JSON object, to be saved with a run."""
        fields = {"kind": "characters", **dataclasses.asdict(self)}
        return json.dumps(fields) + "\n"

    def __len__(self) -> int:
        return self._first + len(self.characters)

    @property
    def _first(self) -> int:
        return len(SPECIALS) if self.specials else 0

    def encode(self, text: str) -> np.ndarray:
        """The tokens of `text`, int32 `[len(text)]`; a ValueError names an unknown character."""
        known, points = _code_points(self.characters), _code_points(text)
        places = np.minimum(np.searchsorted(known, points), len(known) - 1)
        unknown = known[places] != points
        if unknown.any() and not self.specials:
            position = int(unknown.argmax())
            raise ValueError(
                f"character {text[position]!r} at position {position} is not among the"
                f" {len(self)} of the vocabulary: {self.characters!r}."
            )
        return np.where(unknown, UNK, places + self._first).astype(np.int32)

    def decode(self, tokens: Sequence[int] | np.ndarray) -> str:
        """The text of `tokens`; `<unk>` is U+FFFD, the other special tokens are left out."""
        tokens = check_tokens(tokens, len(self)).tolist()
        return "".join(self._pieces[token] for token in tokens)

    @cached_property
    def _pieces(self) -> tuple[str, ...]:
        specials = tuple("\ufffd" if special == "<unk>" else "" for special in SPECIALS)
        return (specials if self.specials else ()) + tuple(self.characters)


@dataclasses.dataclass(frozen=True)
class WordVocabulary:
    """The words a model knows: the special tokens, then the words, the most frequent first.

    A special token that stands in a text, such as the `<unk>` of prepared corpora, is that token.

    Attributes:
      words: distinct and not special.
      pattern: regular expression of a word; what is between words is lost.
      specials: those of `SPECIALS` that it has, in their order, `<unk>` among them. A language
        model of lines needs ("<unk>", "<eos>") only; what never occurs would still be predicted.

    Example:
        >>> vocabulary = WordVocabulary.from_text("the cat and the dog")
        >>> vocabulary.words
        ('the', 'and', 'cat', 'dog')
        >>> vocabulary.encode("the bird")
        array([4, 1], dtype=int32)
        >>> vocabulary.decode([4, 6, 3])
        'the cat'
    """

    words: tuple[str, ...]
    pattern: str = r"\S+"
    specials: tuple[str, ...] = SPECIALS

    def __post_init__(self):
        if len(set(self.words)) != len(self.words) or set(self.words) & set(SPECIALS):
            raise ValueError("words: expected distinct words, none of them special.")
        in_order = tuple(special for special in SPECIALS if special in self.specials)
        if self.specials != in_order or "<unk>" not in in_order:
            raise ValueError(
                f"specials: expected some of {SPECIALS} in that order, <unk> among them, got"
                f" {self.specials}."
            )
        _ = self._find  # compiles the pattern now, so that a broken one is refused here

    @classmethod
    def from_text(
        cls,
        *texts: str,
        max_size: int | None = None,
        min_count: int = 1,
        pattern: str = r"\S+",
        specials: tuple[str, ...] = SPECIALS,
    ) -> "WordVocabulary":
        """The vocabulary of the words in `texts`.

        Args:
          *texts: where to count; the training split alone.
          max_size: keeps the most frequent words, so that there are at most so many tokens, the
            special ones included.
          min_count: leaves out words that are less frequent.
          pattern: regular expression of a word.
          specials: the special tokens that it shall have.

        Returns:
          The vocabulary; words of one frequency are in the order of their code points.
        """
        check_count("min_count", min_count)
        find = cls((), pattern, specials)._find
        counts = collections.Counter(word for text in texts for word in find(text))
        kept = [w for w, count in counts.items() if count >= min_count and w not in SPECIALS]
        kept.sort(key=lambda word: (-counts[word], word))
        if max_size is not None:
            check_count("max_size", max_size, least=len(specials))
            kept = kept[: max_size - len(specials)]
        return cls(tuple(kept), pattern, specials)

    @classmethod
    def from_json(cls, content: str) -> "WordVocabulary":
        """Reads what `to_json` wrote."""
        fields = json.loads(content)
        specials = tuple(fields.get("specials", SPECIALS))
        return cls(tuple(fields["words"]), fields["pattern"], specials)

    def to_json(self) -> str:
        """The vocabulary as a JSON object, to be saved with a run."""
        return json.dumps({"kind": "words", **dataclasses.asdict(self)}) + "\n"

    def __len__(self) -> int:
        return len(self.specials) + len(self.words)

    @cached_property
    def _find(self) -> Callable[[str], list[str]]:
        try:
            pattern = re.compile(self.pattern)
        except re.error as error:
            raise ValueError(f"pattern: expected a regular expression, got {error}.") from error
        if pattern.groups:
            raise ValueError(
                f"pattern: expected no capturing group, got {self.pattern!r}. Write (?:...)."
            )
        return pattern.findall

    @cached_property
    def _tokens(self) -> dict[str, int]:
        return {word: token for token, word in enumerate(self._pieces)}

    @cached_property
    def _pieces(self) -> tuple[str, ...]:
        return self.specials + self.words

    def encode(self, text: str) -> np.ndarray:
        """The tokens of the words of `text`, int32 `[N]`; an unknown word is `<unk>`."""
        tokens, unknown = self._tokens, self._tokens["<unk>"]
        return np.array([tokens.get(word, unknown) for word in self._find(text)], np.int32)

    def decode(self, tokens: Sequence[int] | np.ndarray) -> str:
        """The words of `tokens` with spaces between; of the special tokens, only `<unk>`."""
        tokens = check_tokens(tokens, len(self)).tolist()
        words = (self._pieces[token] for token in tokens)
        return " ".join(word for word in words if word == "<unk>" or word not in SPECIALS)

    def encode_lines(self, text: str) -> np.ndarray:
        """As `encode`, with `<eos>` after every line, empty ones too: for language models."""
        lines = text.removesuffix("\n").split("\n") if text else []
        end = np.array([self._end], np.int32)
        parts = [part for line in lines for part in (self.encode(line), end)]
        return np.concatenate([np.zeros(0, np.int32), *parts])

    @property
    def _end(self) -> int:
        """The token of `<eos>`."""
        if "<eos>" not in self.specials:
            raise ValueError(f"specials: expected <eos> for lines, got {self.specials}.")
        return self._tokens["<eos>"]

    def decode_lines(self, tokens: Sequence[int] | np.ndarray) -> str:
        """The text of `tokens`, with a line end for every `<eos>`."""
        tokens = check_tokens(tokens, len(self))
        lines = np.split(tokens, np.flatnonzero(tokens == self._end) + 1)
        return "\n".join(self.decode(line) for line in lines)


def check_tokens(tokens: Sequence[int] | np.ndarray, size: int) -> np.ndarray:
    """Tokens as an array `[N]`, refused where they are not those of a vocabulary of `size`."""
    array = np.asarray(tokens)
    if array.shape == (0,):
        return array.astype(np.int32)
    if array.dtype.kind not in "iu":
        raise TypeError(f"tokens: expected integers, got {array.dtype}.")
    if array.ndim != 1:
        raise ValueError(f"tokens: expected one axis [N], got shape {array.shape}.")
    bad = (array < 0) | (array >= size)
    if bad.any():
        raise ValueError(
            f"tokens: expected 0 to {size - 1}, those of the vocabulary, got {array[bad][0]} at"
            f" position {bad.argmax()}."
        )
    return array


def _code_points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le"), np.uint32)
