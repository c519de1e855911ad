"""R22: an experiment on malformed data says which file, and what is wrong with it."""

import gzip

import pytest

from experiments import language_model
from rnnlab.data import CharacterVocabulary, Streams
from rnnlab.data.registry import DATASETS

pytestmark = pytest.mark.promise("R22")

DATASET = DATASETS["tiny_shakespeare"]
SHA256 = DATASET.file("input.txt").sha256
DAMAGED = {
    "empty": ("input.txt", b""),
    "not UTF-8": ("input.txt", b"First\nCitizen\xff"),
    "something else": ("input.txt", b"<html>sorry</html>"),
    "one token": ("input.txt", b"F"),
    "half a gzip file": ("input.txt.gz", gzip.compress(b"First Citizen" * 99)[:-20]),
    "another gzip file": ("input.txt.gz", gzip.compress(b"First Citizen")),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_text_is_refused_with_its_name_and_both_hashes(tmp_path, damage):
    name, content = DAMAGED[damage]
    folder = tmp_path / "data" / DATASET.folder
    folder.mkdir(parents=True)
    (folder / name).write_bytes(content)
    flags = [f"--data_dir={tmp_path / 'data'}", "--dataset=tiny_shakespeare", "--features=4"]
    with pytest.raises(ValueError, match=f"expected content with SHA-256 {SHA256}, got") as error:
        language_model.main(["program", f"--workdir={tmp_path / 'run'}", *flags])
    assert str(folder / name) in str(error.value)
    assert "Remove the file to fetch it again" in str(error.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("text", ["", "F"])
def test_a_text_of_one_token_is_nothing_to_learn_from(text):
    vocabulary = CharacterVocabulary.from_text("First")
    with pytest.raises(ValueError, match="tokens: expected one axis of at least 2 tokens, one to"):
        Streams(vocabulary.encode(text), num_streams=1, seq_length=4)


def test_a_character_nobody_knows_is_named():
    vocabulary = CharacterVocabulary.from_text("First")
    with pytest.raises(ValueError, match="x"):
        vocabulary.encode("x")
