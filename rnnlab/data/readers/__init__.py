"""Readers: one function for each format of the registry, from bytes to records.

`READERS` is the catalogue: format -> function. Records are a sequence of NamedTuples, dicts, lines
or characters, or an array along whose first axis they lie; each reader says which. What is not as
the format says is an error that names the line, never a silent skip.
"""

import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from rnnlab.data.readers.common import located
from rnnlab.data.readers.language import (
    captions,
    cmudict,
    conll,
    conll_space,
    conllu,
    names,
    snips,
    tatoeba,
)
from rnnlab.data.readers.media import idx, omniglot_images, omniglot_strokes, spoken_digits
from rnnlab.data.readers.series import chorales, indoor_movement, piano_rolls, ts
from rnnlab.data.readers.tables import csv, jsonl, labelled, lines, m4, matrix, numbers, text
from rnnlab.data.registry import Dataset, find_file, read_file

__all__ = ["READERS", "Records", "numbers", "parse", "read_records"]

Records = Sequence[Any] | np.ndarray

READERS: Mapping[str, Callable[[bytes], Records]] = types.MappingProxyType(
    {
        reader.__name__: reader
        for reader in (
            *(text, lines, csv, matrix, m4, jsonl, labelled),
            *(conll, conll_space, conllu, snips, tatoeba, cmudict, names, captions),
            *(ts, indoor_movement, chorales, piano_rolls),
            *(spoken_digits, idx, omniglot_images, omniglot_strokes),
        )
    }
)
"""Format -> reader. Adding a format is one function and its name here."""


def parse(content: bytes, format: str, source: str) -> Records:
    """The records in some bytes.

    Args:
      content: the bytes of a file, after gunzip.
      format: one of `READERS`.
      source: what to call the file in errors.

    Raises:
      ValueError: no such format, or content that is not in it, with `source` and the line.
    """
    if format not in READERS:
        raise ValueError(f"format: expected one of {', '.join(READERS)}, got {format!r}.")
    with located(source):
        records = READERS[format](content)
        if not len(records):
            raise ValueError("expected at least one record, got none.")
    return records


def read_records(dataset: Dataset, name: str, data_dir: str | None = None) -> Records:
    """The records of one file of a data set, downloaded where it is missing.

    Args:
      dataset: an entry of `DATASETS`.
      name: one of its files.
      data_dir: where to look first, the `--data_dir` of an experiment.

    Returns:
      What the reader of the file's format returns.

    Raises:
      ValueError: content that is not the one the registry names, or malformed content.
      FileNotFoundError: as `read_file`.
    """
    content = read_file(dataset, name, data_dir)
    return parse(content, dataset.file(name).format, str(find_file(dataset, name, data_dir)))
