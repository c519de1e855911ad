"""Data sets (`registry`, `text`), tokenizers, padding, packing and batches."""

from rnnlab.data.archives import extract, read_members
from rnnlab.data.batches import Batch, Batches, Rows, stack_examples
from rnnlab.data.buckets import BucketBatches, bucket_boundaries
from rnnlab.data.glove import Vectors, read_glove
from rnnlab.data.language import (
    Extent,
    build_tokenizer,
    decode_stream,
    decode_text,
    encode_prompt,
    encode_text,
    measure,
)
from rnnlab.data.normaliser import Normaliser, Splits, split_series
from rnnlab.data.packing import Packed, PackedTokens, pack, pack_tokens, unpack
from rnnlab.data.padding import Padded, pad
from rnnlab.data.random_streams import RandomStreams
from rnnlab.data.readers import READERS, read_records
from rnnlab.data.registry import DATASETS, DataFile, Dataset, find_file, read_file
from rnnlab.data.streams import Streams, Window
from rnnlab.data.synthetic import control_charts
from rnnlab.data.text import CORPORA, Corpus, load_corpus, read_text
from rnnlab.data.tokenizers import SentencePiece, Tokenizer, normalise, tokenizer_from_json
from rnnlab.data.vocabulary import SPECIALS, CharacterVocabulary, WordVocabulary

__all__ = [
    "CORPORA",
    "DATASETS",
    "READERS",
    "SPECIALS",
    "Batch",
    "Batches",
    "BucketBatches",
    "CharacterVocabulary",
    "Corpus",
    "DataFile",
    "Dataset",
    "Extent",
    "Normaliser",
    "Packed",
    "PackedTokens",
    "Padded",
    "RandomStreams",
    "Rows",
    "SentencePiece",
    "Splits",
    "Streams",
    "Tokenizer",
    "Vectors",
    "Window",
    "WordVocabulary",
    "bucket_boundaries",
    "build_tokenizer",
    "control_charts",
    "decode_stream",
    "decode_text",
    "encode_prompt",
    "encode_text",
    "extract",
    "find_file",
    "load_corpus",
    "measure",
    "normalise",
    "pack",
    "pack_tokens",
    "pad",
    "read_file",
    "read_glove",
    "read_members",
    "read_records",
    "read_text",
    "split_series",
    "stack_examples",
    "tokenizer_from_json",
    "unpack",
]
