import gzip
import hashlib
import json
import pathlib
import re
import sys

import pytest

from rnnlab.data import WordVocabulary, registry, text

SHARED = pathlib.Path(__file__).parents[3] / "shared" / "data"


def shared(folder):
    """The directory with the real files, which no test downloads and no checkout contains."""
    if not (SHARED / folder).is_dir():
        pytest.skip(
            f"the files of {folder} are not at {SHARED}: the package ships no third-party text"
        )
    return str(SHARED)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Puts small files where those of a data set are looked for; returns the directory."""

    def place(name, **contents):
        real = registry.DATASETS[name]
        files = [
            registry.DataFile(file.name, hashlib.sha256(content).hexdigest(), format=file.format)
            for file, content in zip(real.files, contents.values(), strict=True)
        ]
        entry = registry.Dataset(name, real.folder, "", "", tuple(files))
        monkeypatch.setattr(text, "DATASETS", {name: entry})
        (tmp_path / real.folder).mkdir()
        for file, content in zip(files, contents.values(), strict=True):
            (tmp_path / real.folder / f"{file.name}.gz").write_bytes(gzip.compress(content))
        return str(tmp_path)

    return place


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


def test_tiny_shakespeare_trains_on_nine_tenths_and_has_no_test_split(place):
    content = b"To be, or not to be. " * 50
    corpus = text.load_corpus("tiny_shakespeare", place("tiny_shakespeare", input=content))
    assert list(corpus.splits) == ["train", "valid"]
    assert len(corpus.splits["train"]) == 945
    assert corpus.splits["train"] + corpus.splits["valid"] == content.decode()


def test_war_and_peace_is_the_book_alone(place):
    book = "CHAPTER I\n\n“Well, Prince, *** so Genoa and Lucca…”\n" * 30
    content = f"Preface\n*** START OF THIS ***\n\n\n{book}\n\n*** END OF THIS ***\nLicence\n"
    corpus = text.load_corpus("war_and_peace", place("war_and_peace", book=content.encode()))
    assert "".join(corpus.splits.values()) == book
    assert list(corpus.splits) == ["train", "valid", "test"]


def test_war_and_peace_without_its_marks_is_refused(place):
    with pytest.raises(ValueError, match=r"expected lines \*\*\* START OF and"):
        text.load_corpus("war_and_peace", place("war_and_peace", book=b"CHAPTER I\n"))


def test_wikitext2_keeps_its_own_splits_as_they_are(place):
    contents = {"train": b" \n = A = \n", "valid": b" a <unk> \n", "test": "\n é \n".encode()}
    corpus = text.load_corpus("wikitext2", place("wikitext2", **contents))
    assert corpus.splits == {split: content.decode() for split, content in contents.items()}


def test_wikitext2_has_the_words_of_the_literature():
    """Merity et al. 2016: 33,278 types, 2,088,628, 217,646 and 245,569 tokens, <eos> included."""
    corpus = text.load_corpus("wikitext2", shared("wikitext-2"))
    train = corpus.splits["train"]
    vocabulary = WordVocabulary.from_text(train, specials=("<unk>", "<eos>"))
    assert len(vocabulary) == 33_278
    tokens = {split: vocabulary.encode_lines(part) for split, part in corpus.splits.items()}
    sizes = {"train": 2_088_628, "valid": 217_646, "test": 245_569}
    assert {split: len(part) for split, part in tokens.items()} == sizes
    unknown = vocabulary.encode("<unk>")[0]
    for split, part in corpus.splits.items():  # every word is known; <unk> stands in the text
        assert (tokens[split] == unknown).sum() == part.split().count("<unk>")


def poems(*lines):
    return "".join(json.dumps({"paragraphs": list(poem)}) + "\n" for poem in lines).encode()


def test_tang_poetry_holds_out_whole_poems_that_are_nowhere_else(place):
    distinct = [(f"{chr(0x4E00 + i)}一，", f"{chr(0x4E00 + i)}二。") for i in range(40)]
    again = ("".join(distinct[0]),)  # the same characters, cut into other lines
    version = (distinct[18][0], "三。")  # so the 19th is no longer held out
    records = [*distinct, again, version, ("。",), ()]
    corpus = text.load_corpus("tang_poetry", place("tang_poetry", poems=poems(*records)))
    splits = {split: part.split("\n\n")[:-1] for split, part in corpus.splits.items()}
    texts = ["\n".join(poem) for poem in distinct]
    assert splits["valid"] == [texts[38]]
    assert splits["test"] == [texts[19], texts[39]]
    rest = [poem for i, poem in enumerate(texts) if i not in (19, 38, 39)]
    assert splits["train"] == [*rest, "\n".join(version)]


def test_no_tang_couplet_stands_in_two_splits():
    corpus = text.load_corpus("tang_poetry", shared("tang-poetry"))
    couplets = [set(re.findall(".+", part)) for part in corpus.splits.values()]
    assert not (couplets[0] & couplets[1] or couplets[0] & couplets[2] or couplets[1] & couplets[2])
    poem_counts = [part.count("\n\n") for part in corpus.splits.values()]
    assert poem_counts == [51_670, 2_463, 2_469]


def test_a_text_of_ones_own(tmp_path):
    whole = "Ein schöner Satz, der überall steht.\n" * 40
    path = tmp_path / "mine.txt"
    path.write_bytes(b"\xef\xbb\xbf" + whole.replace("\n", "\r\n").encode())
    corpus = text.read_text(path)
    assert corpus.name == "mine.txt"
    assert "".join(corpus.splits.values()) == whole
    sizes = {split: len(part) / len(whole) for split, part in corpus.splits.items()}
    assert sizes == pytest.approx({"train": 0.9, "valid": 0.05, "test": 0.05}, abs=0.01)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "text: expected a file of text, found none at .*mine.txt"),
        (b"", r"mine.txt: expected at least one record, got none"),
        (b"word " * 7, r"mine.txt: expected a text of 40 characters or more, .* got 35"),
        (b"one\ntw\xff\n", r"mine.txt: line 2: expected UTF-8, got byte 0xff at offset 6"),
    ],
)
def test_a_text_that_cannot_be_used_says_why(tmp_path, content, message):
    if content is not None:
        (tmp_path / "mine.txt").write_bytes(content)
    with pytest.raises((FileNotFoundError, ValueError), match=message):
        text.read_text(tmp_path / "mine.txt")


def test_unknown_corpus_is_named_with_the_known_ones():
    with pytest.raises(ValueError, match=r"one of python_docs, tang_poetry, .*, got 'moby_dick'"):
        text.load_corpus("moby_dick")
