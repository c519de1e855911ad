"""Data sets (`registry`, `text`), vocabularies and batches (`streams`)."""

from rnnlab.data.registry import DATASETS, DataFile, Dataset, read_file
from rnnlab.data.streams import Streams, Window
from rnnlab.data.text import CORPORA, Corpus, load_corpus
from rnnlab.data.vocabulary import CharacterVocabulary

__all__ = [
    "CORPORA",
    "DATASETS",
    "CharacterVocabulary",
    "Corpus",
    "DataFile",
    "Dataset",
    "Streams",
    "Window",
    "load_corpus",
    "read_file",
]
