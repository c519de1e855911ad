"""From text to tokens: what all tokenizers share, and the learned one, SentencePiece."""

import base64
import binascii
import dataclasses
import io
import json
import re
import unicodedata
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np

from rnnlab.data.checks import check_count
from rnnlab.data.vocabulary import SPECIALS, CharacterVocabulary, WordVocabulary, check_tokens


class Tokenizer(Protocol):
    """What the vocabularies and `SentencePiece` have in common."""

    def __len__(self) -> int:
        """How many tokens there are."""
        ...

    def encode(self, text: str) -> np.ndarray:
        """The tokens of a text, int32 `[N]`."""
        ...

    def decode(self, tokens: Sequence[int] | np.ndarray) -> str:
        """The text of tokens."""
        ...

    def to_json(self) -> str:
        """The tokenizer as a JSON object, which `tokenizer_from_json` reads."""
        ...


def normalise(
    text: str,
    form: Literal["NFC", "NFD", "NFKC", "NFKD"] = "NFC",
    *,
    lower: bool = False,
    collapse: bool = False,
) -> str:
    r"""One spelling for texts that look the same; doing it twice changes nothing more.

    Line ends, all that `str.splitlines` knows, become "\n"; other control characters are removed,
    except tabs, and so is a byte order mark.

    Args:
      text: what to normalise.
      form: Unicode's normal form; the K forms also replace look-alikes, such as ligatures.
      lower: whether to make letters small.
      collapse: whether every run of spaces and tabs becomes one space, and none is left at the
        ends of lines.

    Returns:
      The normalised text.

    Example:
        >>> normalise("Cafe\u0301\r\n\x00two  words ", lower=True, collapse=True)
        'café\ntwo words'

    References: Unicode Standard Annex 15, "Unicode normalization forms".
    """
    if form not in ("NFC", "NFD", "NFKC", "NFKD"):
        raise ValueError(f"form: expected NFC, NFD, NFKC or NFKD, got {form!r}.")
    text = re.sub("\r\n|[\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]", "\n", text)
    text = re.sub("[\x00-\x08\x0e-\x1f\x7f-\x9f\ufeff]", "", text)
    text = unicodedata.normalize(form, text)
    if lower:
        text = unicodedata.normalize(form, text.lower())
    if collapse:
        text = re.sub(r"[^\S\n]+", " ", text)
        text = re.sub(r"(?m)^ | $", "", text)
    return text


@dataclasses.dataclass(frozen=True)
class SentencePiece:
    """Pieces of words, learned from text by sentencepiece; tokens 0 to 3 are `SPECIALS`.

    Spaces and line ends are kept, so text whose characters the training text had comes back from
    `decode(encode(text))` as it was, but for U+2581, which stands for a space. Normalise first.

    Attributes:
      model: sentencepiece's own file, as bytes.

    Example:
        >>> tokenizer = SentencePiece.train("the cat sat on the mat", size=16)
        >>> tokenizer.decode(tokenizer.encode("that cat"))
        'that cat'

    References: Kudo & Richardson 2018, "SentencePiece: a simple and language independent subword
    tokenizer and detokenizer for neural text processing".
    """

    model: bytes = dataclasses.field(repr=False)

    def __post_init__(self):
        _ = self._processor  # reads the model now, so that a broken one is refused here

    @classmethod
    def train(
        cls,
        *texts: str,
        size: int,
        kind: Literal["unigram", "bpe"] = "unigram",
        byte_fallback: bool = False,
    ) -> "SentencePiece":
        """Learns pieces; the same texts give the same pieces.

        Args:
          *texts: where to learn them; the training split alone.
          size: how many tokens there shall be, the special ones included.
          kind: how they are chosen, "unigram" (Kudo 2018) or "bpe" (Sennrich et al. 2016).
          byte_fallback: whether unknown characters become bytes, which takes 256 tokens; if not,
            they are `<unk>`.

        Returns:
          The tokenizer.

        Raises:
          ValueError: no text, or a size that sentencepiece cannot make of it, with its reason.
          ModuleNotFoundError: without sentencepiece, of the extra `text`.
        """
        check_count("size", size, least=len(SPECIALS) + 1)
        if kind not in ("unigram", "bpe"):
            raise ValueError(f'kind: expected "unigram" or "bpe", got {kind!r}.')
        lines = [line for text in texts for line in text.split("\n") if line]
        if not lines:
            raise ValueError("texts: expected some text to learn from, got none.")
        model = io.BytesIO()
        try:
            _import_sentencepiece().SentencePieceTrainer.train(
                sentence_iterator=iter(lines),
                model_writer=model,
                model_type=kind,
                vocab_size=size,
                byte_fallback=byte_fallback,
                character_coverage=1.0,
                normalization_rule_name="identity",
                remove_extra_whitespaces=False,
                user_defined_symbols=["\n"],  # lines are cut before training; texts keep them
                max_sentence_length=max(len(line.encode()) for line in lines) + 1,
                shuffle_input_sentence=False,
                num_threads=1,  # the order of floating-point sums depends on their number
                minloglevel=2,
                **_special_options(),
            )
        except RuntimeError as error:
            raise ValueError(
                f"size: expected one that fits the text, got {size}: {error}"
            ) from error
        return cls(model.getvalue())

    @classmethod
    def from_json(cls, content: str) -> "SentencePiece":
        """Reads what `to_json` wrote."""
        try:
            return cls(base64.b64decode(json.loads(content)["model"], validate=True))
        except binascii.Error as error:
            raise ValueError(f"model: expected base64, got {error}.") from error

    def to_json(self) -> str:
        """The tokenizer as a JSON object, to be saved with a run."""
        model = base64.b64encode(self.model).decode()
        return json.dumps({"kind": "sentencepiece", "model": model}) + "\n"

    def __len__(self) -> int:
        return len(self._processor)

    @cached_property
    def _processor(self) -> Any:
        try:
            return _import_sentencepiece().SentencePieceProcessor(model_proto=self.model)
        except RuntimeError as error:
            raise ValueError(f"model: expected a sentencepiece model, got {error}") from error

    def encode(self, text: str) -> np.ndarray:
        """The tokens of the pieces of `text`, int32 `[N]`."""
        return np.array(self._processor.encode(text), np.int32)

    def decode(self, tokens: Sequence[int] | np.ndarray) -> str:
        """The text of `tokens`; `<unk>` is " ⁇ ", the other special tokens are left out."""
        return self._processor.decode(check_tokens(tokens, len(self)).tolist())


def _special_options() -> dict[str, Any]:
    """`SPECIALS` as sentencepiece wants them: pad_id, pad_piece, unk_id, ..."""
    names = [piece.strip("<>") for piece in SPECIALS]
    ids = {f"{name}_id": token for token, name in enumerate(names)}
    return ids | {f"{name}_piece": f"<{name}>" for name in names}


def _import_sentencepiece() -> Any:
    try:
        import sentencepiece  # an optional extra
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "SentencePiece: expected sentencepiece to be installed: pip install 'rnnlab[text]'"
        ) from error
    return sentencepiece


TOKENIZERS = {
    "characters": CharacterVocabulary,
    "words": WordVocabulary,
    "sentencepiece": SentencePiece,
}
"""The `kind` in the JSON of a tokenizer -> its class."""


def tokenizer_from_json(content: str) -> Tokenizer:
    """Restores a tokenizer of any kind.

    Args:
      content: what its `to_json` wrote; without a kind, that of a `CharacterVocabulary`.

    Returns:
      The tokenizer.

    Raises:
      ValueError: no JSON object, an unknown kind, or fields that do not fit it.

    Example:
        >>> tokenizer_from_json(CharacterVocabulary.from_text("hello").to_json())
        CharacterVocabulary(characters='ehlo', specials=False)
    """
    try:
        fields = json.loads(content)
        kind = fields.get("kind", "characters")
        if kind not in TOKENIZERS:
            raise ValueError(f"tokenizer: expected kind {' or '.join(TOKENIZERS)}, got {kind!r}.")
        return TOKENIZERS[kind].from_json(content)
    except json.JSONDecodeError as error:
        raise ValueError(f"tokenizer: expected a JSON object, got {content[:40]!r}.") from error
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(
            f"tokenizer: expected what to_json wrote, got {content[:40]!r} ({error!r})."
        ) from error
