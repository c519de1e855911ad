"""What a language model reads of a corpus, and the units that its loss is counted by."""

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from rnnlab.data.tokenizers import SentencePiece, Tokenizer
from rnnlab.data.vocabulary import CharacterVocabulary, WordVocabulary

KINDS = ("character", "word", "sentencepiece")
"""Of tokenizers, as flags call them."""

LARGEST_EXPONENT = 700  # of a number that is still finite
CONTEXT = 8  # tokens that decide how the next one is written: a space before it, an open character


def build_tokenizer(
    kind: str, splits: Mapping[str, str], *, size: int = 0, min_count: int = 1
) -> Tokenizer:
    r"""The tokenizer of a corpus.

    Words and pieces are learned from the training split alone. Characters are those of every split:
    there is no `<unk>` among them that would make a character cheap for being unknown, so one that
    training never showed costs all that the model thinks it does.

    Args:
      kind: one of `KINDS`. Words stand between blanks, with `<eos>` at each line's end, as in the
        literature on WikiText-2; others are `<unk>`. Pieces fall back on bytes, so none is unknown.
      splits: split -> text, "train" among them.
      size: how many tokens there shall be: the most frequent words (0: all), or the pieces.
      min_count: leaves out words that are less frequent.

    Returns:
      The tokenizer.

    Raises:
      ValueError: an unknown kind, or a size or a count that it has no use for.

    Example:
        >>> tokenizer = build_tokenizer("word", {"train": "the cat\nthe mat\n"})
        >>> encode_text(tokenizer, "the dog\n")
        array([2, 0, 1], dtype=int32)
    """
    if kind not in KINDS:
        raise ValueError(f"tokenizer: expected one of {', '.join(KINDS)}, got {kind!r}.")
    if min_count != 1 and kind != "word":
        raise ValueError(
            f"min_count: expected 1, for it chooses words, not {kind}s; got {min_count}."
        )
    if kind == "word":
        return WordVocabulary.from_text(
            splits["train"],
            max_size=size or None,
            min_count=min_count,
            specials=("<unk>", "<eos>"),
        )
    if kind == "sentencepiece":
        if not size:
            raise ValueError("vocabulary_size: expected how many pieces there shall be, got 0.")
        return SentencePiece.train(splits["train"], size=size, byte_fallback=True)
    if size:
        raise ValueError(f"vocabulary_size: expected 0, for characters are all taken, got {size}.")
    return CharacterVocabulary.from_text(*splits.values())


def encode_text(tokenizer: Tokenizer, text: str) -> np.ndarray:
    """The tokens of lines of text, int32 `[N]`; words get `<eos>` after each line."""
    if isinstance(tokenizer, WordVocabulary):
        return tokenizer.encode_lines(text)
    return tokenizer.encode(text)


def decode_text(tokenizer: Tokenizer, tokens: Sequence[int] | np.ndarray) -> str:
    """The text of what `encode_text` gave."""
    if isinstance(tokenizer, WordVocabulary):
        return tokenizer.decode_lines(tokens)
    return tokenizer.decode(tokens)


def encode_prompt(tokenizer: Tokenizer, text: str) -> np.ndarray:
    """The tokens of a text that is to go on; a word that is not known is a ValueError."""
    if not isinstance(tokenizer, WordVocabulary):
        return tokenizer.encode(text)
    tokens = tokenizer.encode_lines(text)
    if tokens.size and not text.endswith("\n"):
        tokens = tokens[:-1]  # the line is not at its end
    for word in text.split():
        if word != "<unk>" and word not in tokenizer.words:
            raise ValueError(
                f"{word!r} is not among the {len(tokenizer):,} words of the vocabulary."
            )
    return tokens


def decode_stream(
    tokenizer: Tokenizer, prompt: Sequence[int] | np.ndarray, tokens: Iterable[int]
) -> Iterator[str]:
    """What each token adds to the text of a prompt, at once but for characters not complete.

    Joined, it is what `decode_text` makes of the prompt and the tokens, without that of the prompt.
    """
    context, pending = [int(token) for token in prompt][-CONTEXT:], []
    for token in tokens:
        pending.append(token)
        text = decode_text(tokenizer, context + pending)
        if not text.endswith("\ufffd"):  # or some bytes of a character are still to come
            yield text[len(decode_text(tokenizer, context)) :]
            context, pending = (context + pending)[-CONTEXT:], []
    if pending:
        yield decode_text(tokenizer, context + pending)[len(decode_text(tokenizer, context)) :]


@dataclasses.dataclass(frozen=True)
class Extent:
    """How long a text is, in the units that a loss is given in.

        nats of the text = loss * tokens
        bits per character = nats / (log 2 * characters)
        perplexity per token = exp(loss),    per word = exp(nats / words)

    Perplexity per word and bits per character compare models whatever their tokens are; that per
    token does not. A text begins with a token that is read and not predicted, so its loss is the
    mean over the others; the first counts as much as the mean, which makes perplexity per word
    equal to that per token where tokens are words, as in the literature.

    Attributes:
      tokens: what a model predicts.
      words: stretches between blanks, and one `<eos>` a line, whatever the tokenizer.
      characters: code points, line ends included.
      unknown: tokens that are `<unk>`. The loss is then that of a text in which those words are
        hidden, also where it is given in bits per character.
      unseen: tokens that the training split has not.
    """

    tokens: int
    words: int
    characters: int
    unknown: int = 0
    unseen: int = 0

    def scores(self, loss: float) -> dict[str, float]:
        """Bits per character, and perplexity per token and per word, of a loss in nats per token.

        A perplexity is cut off at e^700, where a number would not be finite any more.
        """
        nats = loss * self.tokens
        return {
            "bpc": nats / (math.log(2) * self.characters),
            "perplexity": math.exp(min(loss, LARGEST_EXPONENT)),
            "word_perplexity": math.exp(min(nats / self.words, LARGEST_EXPONENT)),
        }

    def __str__(self) -> str:
        counts = f"{self.tokens:,} tokens, {self.words:,} words, {self.characters:,} characters"
        parts = [counts]
        if self.unknown:
            parts.append(f"{100 * self.unknown / self.tokens:.2g} % of the tokens are <unk>")
        if self.unseen:
            parts.append(f"{self.unseen:,} tokens that training never shows")
        return "; ".join(parts)


def measure(
    tokenizer: Tokenizer, splits: Mapping[str, str], tokens: Mapping[str, np.ndarray]
) -> dict[str, Extent]:
    r"""How long each split is.

    Args:
      tokenizer: of the tokens.
      splits: split -> text.
      tokens: split -> its tokens, as `encode_text` gives them.

    Returns:
      Split -> its extent.

    Example:
        >>> splits = {"train": "to be or\nnot\n"}
        >>> tokenizer = build_tokenizer("word", splits)
        >>> tokens = {"train": encode_text(tokenizer, splits["train"])}
        >>> print(measure(tokenizer, splits, tokens)["train"])
        6 tokens, 6 words, 13 characters
    """
    unknown = tokenizer.encode("<unk>") if isinstance(tokenizer, WordVocabulary) else ()
    seen = np.unique(tokens["train"])
    return {
        split: Extent(
            tokens=len(tokens[split]),
            words=len(text.split()) + len(text.removesuffix("\n").split("\n")),
            characters=len(text),
            unknown=int(np.isin(tokens[split], unknown).sum()),
            unseen=int((~np.isin(tokens[split], seen)).sum()),
        )
        for split, text in splits.items()
    }
