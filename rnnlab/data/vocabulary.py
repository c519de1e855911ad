"""Character vocabularies."""

import dataclasses
import json

import numpy as np


@dataclasses.dataclass(frozen=True)
class CharacterVocabulary:
    r"""The characters a model knows; the token of a character is its place among them.

    Attributes:
      characters: distinct, in the order of their code points.

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

    def __post_init__(self):
        if list(self.characters) != sorted(set(self.characters)) or not self.characters:
            raise ValueError(
                "characters: expected one or more distinct characters in the order of their code"
                f" points, got {self.characters[:40]!r}. Use CharacterVocabulary.from_text(text)."
            )

    @classmethod
    def from_text(cls, *texts: str) -> "CharacterVocabulary":
        """The vocabulary of every character in `texts`."""
        return cls("".join(sorted(set().union(*texts))))

    @classmethod
    def from_json(cls, content: str) -> "CharacterVocabulary":
        """Reads what `to_json` wrote."""
        return cls(json.loads(content)["characters"])

    def to_json(self) -> str:
        """The vocabulary as a JSON object, to be saved with a run."""
        return json.dumps({"characters": self.characters}) + "\n"

    def __len__(self) -> int:
        return len(self.characters)

    def encode(self, text: str) -> np.ndarray:
        """The tokens of `text`, int32 `[len(text)]`; a ValueError names an unknown character."""
        known, points = _code_points(self.characters), _code_points(text)
        tokens = np.minimum(np.searchsorted(known, points), len(known) - 1)
        unknown = np.flatnonzero(known[tokens] != points)
        if unknown.size:
            raise ValueError(
                f"character {text[unknown[0]]!r} at position {unknown[0]} is not among the"
                f" {len(self)} of the vocabulary: {self.characters!r}."
            )
        return tokens.astype(np.int32)

    def decode(self, tokens) -> str:
        """The text of `tokens`, a sequence of integers."""
        return "".join(self.characters[token] for token in tokens)


def _code_points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le"), np.uint32)
