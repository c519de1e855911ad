import math

import numpy as np
import pytest

from rnnlab.data import (
    CharacterVocabulary,
    Extent,
    SentencePiece,
    WordVocabulary,
    build_tokenizer,
    decode_stream,
    decode_text,
    encode_prompt,
    encode_text,
    measure,
    tokenizer_from_json,
)

SPLITS = {
    "train": "the cat sat on the mat\n\nthe dog sat on the log\n" * 20,
    "valid": "the cat sat on the lög\n",
}


def tokenizers():
    return {
        "character": build_tokenizer("character", SPLITS),
        "word": build_tokenizer("word", SPLITS),
        "sentencepiece": build_tokenizer("sentencepiece", SPLITS, size=276),
    }


def test_each_kind_of_tokenizer_and_its_way_back():
    found = tokenizers()
    kinds = {name: type(tokenizer) for name, tokenizer in found.items()}
    assert kinds == {
        "character": CharacterVocabulary,
        "word": WordVocabulary,
        "sentencepiece": SentencePiece,
    }
    for tokenizer in found.values():
        tokens = encode_text(tokenizer, SPLITS["train"])
        assert decode_text(tokenizer, tokens) == SPLITS["train"]
        restored = tokenizer_from_json(tokenizer.to_json())
        np.testing.assert_array_equal(encode_text(restored, SPLITS["train"]), tokens)


def test_characters_and_pieces_know_what_training_never_shows_and_words_do_not():
    characters, words, pieces = tokenizers().values()
    for tokenizer in (characters, pieces):
        assert decode_text(tokenizer, encode_text(tokenizer, "lög\n")) == "lög\n"
    assert decode_text(words, encode_text(words, "the lög\n")) == "the <unk>\n"
    with pytest.raises(ValueError, match="character 'ü' at position 1"):
        characters.encode("lüg")


def test_size_and_count_choose_words():
    assert len(build_tokenizer("word", SPLITS)) == 2 + 7
    assert len(build_tokenizer("word", SPLITS, size=5)) == 5
    assert len(build_tokenizer("word", SPLITS, min_count=40)) == 2 + 3
    assert len(build_tokenizer("sentencepiece", SPLITS, size=276)) == 276


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("letter", {}, "tokenizer: expected one of character, word, sentencepiece, got 'letter'"),
        ("character", {"size": 9}, "vocabulary_size: expected 0, for characters are all taken"),
        ("character", {"min_count": 2}, "min_count: expected 1, for it chooses words"),
        ("sentencepiece", {"size": 300, "min_count": 2}, "not sentencepieces; got 2"),
        ("sentencepiece", {}, "vocabulary_size: expected how many pieces"),
        ("sentencepiece", {"size": 100}, "size: expected one that fits the text, got 100"),
        ("word", {"size": 1}, "max_size: expected at least 2, got 1"),
    ],
)
def test_what_a_tokenizer_has_no_use_for_is_refused(kind, options, message):
    with pytest.raises(ValueError, match=message):
        build_tokenizer(kind, SPLITS, **options)


def test_a_prompt_of_words_goes_on_in_its_line_and_knows_its_words():
    words = tokenizers()["word"]
    assert decode_text(words, encode_prompt(words, "the cat")) == "the cat"
    assert decode_text(words, encode_prompt(words, "the cat\n")) == "the cat\n"
    assert decode_text(words, encode_prompt(words, "<unk>\nthe")) == "<unk>\nthe"
    assert len(encode_prompt(words, "")) == 0
    with pytest.raises(ValueError, match="'bird' is not among the 9 words of the vocabulary"):
        encode_prompt(words, "the bird")


@pytest.mark.parametrize("kind", ["character", "word", "sentencepiece"])
@pytest.mark.parametrize("cut", [1, 2, 9])
def test_a_stream_of_text_is_the_text(kind, cut):
    tokenizer = tokenizers()[kind]
    tokens = encode_text(tokenizer, "the cat sat\non the lög and\n\nthe mat\n")
    pieces = list(decode_stream(tokenizer, tokens[:cut], iter(tokens[cut:].tolist())))
    start = decode_text(tokenizer, tokens[:cut])
    assert start + "".join(pieces) == decode_text(tokenizer, tokens)
    assert "\ufffd" not in "".join(pieces)  # ö is two bytes, and shown when it is whole


def test_a_stream_that_ends_within_a_character_says_so():
    tokenizer = tokenizers()["sentencepiece"]
    tokens = tokenizer.encode("ç")  # a space, and two bytes
    assert len(tokens) == 3
    assert list(decode_stream(tokenizer, tokens[:1], tokens[1:2].tolist())) == ["\ufffd"]


def test_extents_count_what_stands_in_the_text():
    words = tokenizers()["word"]
    tokens = {split: encode_text(words, text) for split, text in SPLITS.items()}
    extents = measure(words, SPLITS, tokens)
    train, valid = SPLITS["train"], SPLITS["valid"]
    assert extents["train"] == Extent(15 * 20, 15 * 20, len(train))
    assert extents["valid"] == Extent(7, 7, len(valid), unknown=1, unseen=1)
    assert str(extents["valid"]) == (
        "7 tokens, 7 words, 23 characters; 14 % of the tokens are <unk>; 1 tokens that training"
        " never shows"
    )
    characters = tokenizers()["character"]
    tokens = {split: encode_text(characters, text) for split, text in SPLITS.items()}
    assert measure(characters, SPLITS, tokens)["valid"] == Extent(23, 7, 23, unseen=1)


def test_a_last_line_without_its_end_counts_as_one():
    words = tokenizers()["word"]
    for text in ("the cat", "the cat\n", "the\n\ncat\n", " \n"):
        splits = {"train": text}
        tokens = {"train": encode_text(words, text)}
        assert measure(words, splits, tokens)["train"].words == len(tokens["train"])


def test_scores_are_of_the_whole_text_whatever_the_tokens():
    """One text, cut in three ways, at the same nats: bits and perplexity per word are the same."""
    nats, scores = 900.0, []
    for tokens in (100, 500, 260):
        scores.append(Extent(tokens, words=100, characters=500).scores(nats / tokens))
        assert scores[-1]["perplexity"] == pytest.approx(math.exp(nats / tokens))
        assert scores[-1]["word_perplexity"] == pytest.approx(math.exp(9.0))
        assert scores[-1]["bpc"] == pytest.approx(900 / 500 / math.log(2))
    assert scores[0]["perplexity"] == scores[0]["word_perplexity"]  # tokens are words


def test_a_perplexity_stays_finite():
    assert math.isfinite(Extent(1000, 1, 1000).scores(5.0)["word_perplexity"])
