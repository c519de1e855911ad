import json
import sys

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from rnnlab.data import (
    CharacterVocabulary,
    SentencePiece,
    WordVocabulary,
    normalise,
    tokenizer_from_json,
)
from rnnlab.data.tokenizers import TOKENIZERS

TEXT = "The cat sat on the mat.\nThe dog  sat, too:\n\n\tnaïve “words” 𝄞, and 语言 .\n" * 4


def trained(**options):
    pytest.importorskip("sentencepiece")
    return SentencePiece.train(TEXT, **{"size": 35, **options})


MAKERS = {
    "characters": lambda: CharacterVocabulary.from_text(TEXT, specials=True),
    "words": lambda: WordVocabulary.from_text(TEXT),
    "sentencepiece": trained,
}


def test_every_kind_is_tested():
    assert set(MAKERS) == set(TOKENIZERS)


@pytest.mark.parametrize("kind", MAKERS)
def test_what_all_tokenizers_do(kind):
    tokenizer = MAKERS[kind]()
    tokens = tokenizer.encode(TEXT)
    assert tokens.dtype == np.int32
    assert tokens.min() >= 4  # nothing is special, nothing unknown
    assert tokens.max() < len(tokenizer)
    expected = " ".join(TEXT.split()) if kind == "words" else TEXT
    assert tokenizer.decode(tokens) == expected
    assert tokenizer.encode("").shape == (0,)
    assert tokenizer.encode("").dtype == np.int32
    assert tokenizer.decode([]) == ""
    assert tokenizer.decode([0, 2, *tokens, 3, 0]) == expected
    assert 1 in tokenizer.encode("Ω")
    restored = tokenizer_from_json(tokenizer.to_json())
    assert restored == tokenizer
    assert json.loads(tokenizer.to_json())["kind"] == kind
    np.testing.assert_array_equal(restored.encode(TEXT), tokens)
    with pytest.raises(ValueError, match=f"got {len(tokenizer)} at position 0"):
        tokenizer.decode([len(tokenizer)])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "expected a JSON object, got ''"),
        ("[1]", "expected what to_json wrote"),
        ("{}", "KeyError"),
        ('{"kind": "letters"}', "kind characters or words or sentencepiece, got 'letters'"),
        ('{"kind": ["words"]}', "expected what to_json wrote"),
        ('{"kind": "words"}', "KeyError"),
        ('{"kind": "characters", "characters": "ba"}', "distinct characters in the order"),
        ('{"kind": "sentencepiece", "model": "?"}', "expected base64"),
    ],
)
def test_broken_json_of_a_tokenizer(content, message):
    with pytest.raises(ValueError, match=message):
        tokenizer_from_json(content)


def test_a_model_that_sentencepiece_cannot_read():
    pytest.importorskip("sentencepiece")
    with pytest.raises(ValueError, match="expected a sentencepiece model"):
        SentencePiece(b"junk")


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_the_same_text_gives_the_same_pieces(kind):
    assert trained(kind=kind) == trained(kind=kind)
    assert trained(kind=kind).encode(TEXT).size < 0.9 * len(TEXT)  # it has learned some


def test_spaces_and_line_ends_come_back():
    tokenizer = trained()
    for text in [" the", "the ", "the  cat", "\n", "\n\nthe\n", "  ", "\tthe", "cat"]:
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_unknown_characters_come_back_as_bytes():
    tokenizer = trained(size=290, byte_fallback=True)
    assert tokenizer.decode(tokenizer.encode("Ω the ß")) == "Ω the ß"


def test_long_lines_are_learned_from_too():
    pytest.importorskip("sentencepiece")
    tokenizer = SentencePiece.train("ab " * 3000 + "z", size=9)  # sentencepiece would skip it
    assert 1 not in tokenizer.encode("z")


@pytest.mark.parametrize(
    ("texts", "options", "message"),
    [
        ([], {}, "expected some text to learn from, got none"),
        (["", "\n"], {}, "expected some text to learn from, got none"),
        ([TEXT], {"size": 9999}, r"size: expected one that fits the text, got 9999.*too high"),
        ([TEXT], {"size": 6}, r"size: expected one that fits the text, got 6.*smaller"),
        ([TEXT], {"size": 4}, "size: expected at least 5, got 4"),
        ([TEXT], {"kind": "words"}, "kind: expected"),
    ],
)
def test_texts_and_sizes_that_do_not_do(texts, options, message):
    pytest.importorskip("sentencepiece")
    with pytest.raises(ValueError, match=message):
        SentencePiece.train(*texts, **{"size": 40, **options})


def test_missing_sentencepiece_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'rnnlab\[text\]'"):
        SentencePiece.train(TEXT, size=40)


@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        ("", {}, ""),
        ("e\u0301", {}, "é"),
        ("é", {"form": "NFD"}, "e\u0301"),
        ("ﬁ Ａ", {}, "ﬁ Ａ"),
        ("ﬁ Ａ", {"form": "NFKC"}, "fi A"),
        ("ℌ", {"form": "NFKC", "lower": True}, "h"),
        ("a\r\nb\rc\u2028d\x85e\x0cf\n", {}, "a\nb\nc\nd\ne\nf\n"),
        ("\ufeffa\x00\x1b[\tb\x9f", {}, "a[\tb"),
        ("ÀB", {"lower": True}, "àb"),
        (" a \t b \n  \n c", {"collapse": True}, "a b\n\nc"),
        (" a  b", {}, " a  b"),
    ],
)
def test_normalise(text, options, expected):
    assert normalise(text, **options) == expected


@hypothesis.given(
    st.text(), st.sampled_from(["NFC", "NFD", "NFKC", "NFKD"]), st.booleans(), st.booleans()
)
def test_normalising_twice_changes_nothing_more(text, form, lower, collapse):
    once = normalise(text, form, lower=lower, collapse=collapse)
    assert normalise(once, form, lower=lower, collapse=collapse) == once
    assert once.split("\n") == once.splitlines() + [""] * (once == "" or once.endswith("\n"))


def test_unknown_form():
    with pytest.raises(ValueError, match="form: expected NFC, NFD, NFKC or NFKD, got 'nfc'"):
        normalise("a", "nfc")
