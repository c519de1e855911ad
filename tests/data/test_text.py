import gzip
import hashlib
import sys

import pytest

from rnnlab.data import registry, text


def test_splits_are_consecutive_and_lose_nothing():
    whole = "".join(map(chr, range(1000)))
    splits = text.split_text(whole, {"train": 0.9, "valid": 0.05, "test": 0.05})
    assert "".join(splits.values()) == whole
    assert {name: len(part) for name, part in splits.items()} == {
        "train": 900,
        "valid": 50,
        "test": 50,
    }
    with pytest.raises(ValueError, match="add up to 1"):
        text.split_text(whole, {"train": 0.9})


def test_python_docs_is_the_language_reference_without_repetitions():
    corpus = text.load_corpus("python_docs")
    whole = "".join(corpus.splits.values())
    assert list(corpus.splits) == ["train", "valid", "test"]
    assert len(whole) > 300_000
    assert "yield" in whole
    paragraphs = whole.rstrip("\n").split("\n\n")
    assert len(paragraphs) == len(set(paragraphs))
    assert corpus.fingerprint() == text.load_corpus("python_docs").fingerprint()


def test_python_docs_without_pydoc_data_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(FileNotFoundError, match="pydoc_data"):
        text.load_corpus("python_docs")


def test_tiny_shakespeare_trains_on_nine_tenths_and_has_no_test_split(tmp_path, monkeypatch):
    content = b"To be, or not to be. " * 50
    entry = registry.Dataset(
        name="tiny_shakespeare",
        folder="tinyshakespeare",
        licence="",
        citation="",
        files=(registry.DataFile("input.txt", hashlib.sha256(content).hexdigest()),),
    )
    monkeypatch.setattr(text, "DATASETS", {"tiny_shakespeare": entry})
    (tmp_path / "tinyshakespeare").mkdir()
    (tmp_path / "tinyshakespeare" / "input.txt.gz").write_bytes(gzip.compress(content))
    corpus = text.load_corpus("tiny_shakespeare", str(tmp_path))
    assert list(corpus.splits) == ["train", "valid"]
    assert len(corpus.splits["train"]) == 945
    assert corpus.splits["train"] + corpus.splits["valid"] == content.decode()


def test_unknown_corpus_is_named_with_the_known_ones():
    with pytest.raises(ValueError, match=r"one of python_docs, tiny_shakespeare, got 'moby_dick'"):
        text.load_corpus("moby_dick")
