"""What the language model's modes print: samples, and which tokens it takes for alike."""

import itertools
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from rnnlab.data import CharacterVocabulary, Tokenizer, decode_stream, encode_prompt
from rnnlab.models import LanguageModel, generate_batch, nearest_neighbours
from rnnlab.models.generation import check_options
from rnnlab.training.log import short


def sample(values: flags.FlagValues, model: LanguageModel, tokenizer: Tokenizer, params) -> str:
    """Prints `--samples` samples, a single one while it is drawn; returns them with their prompt.

    Sample number i is the same however many there are.
    """
    start = start_of(values, tokenizer)
    prompt = encode_prompt(tokenizer, start)
    root = jax.random.key(values.sample_seed)
    rows = generate_batch(
        model,
        params,
        prompt,
        jnp.stack([jax.random.fold_in(root, i) for i in range(values.samples)]),
        temperature=values.temperature,
        top_k=values.top_k,
        top_p=values.top_p,
    )
    rows = timed(itertools.islice(rows, values.length))
    if values.samples == 1:
        return written(start, decode_stream(tokenizer, prompt, (int(row[0]) for row in rows)))
    texts = []
    for number, tokens in enumerate(np.stack(list(rows), axis=1), start=1):
        print(f"sample {number}:")
        texts.append(written(start, decode_stream(tokenizer, prompt, tokens.tolist())))
    return "\n\n".join(texts)


def start_of(values: flags.FlagValues, tokenizer: Tokenizer) -> str:
    """`--prompt`; by default a new line or, where the text has none, its vocabulary's first."""
    if values.prompt is not None:
        return values.prompt
    if isinstance(tokenizer, CharacterVocabulary) and "\n" not in tokenizer.characters:
        return tokenizer.characters[0]
    return "\n"


def check_sampling(values: flags.FlagValues, model: LanguageModel, tokenizer: Tokenizer) -> None:
    """Raises what `sample` would after hours of training."""
    prompt = encode_prompt(tokenizer, start_of(values, tokenizer))
    check_options(model, prompt, values.temperature, values.top_k, values.top_p)


def written(prompt: str, pieces: Iterable[str]) -> str:
    """The prompt and the pieces after it, each printed as soon as it is there."""
    text = ""
    for piece in itertools.chain([prompt], pieces):
        sys.stdout.write(piece)
        sys.stdout.flush()
        text += piece
    print()
    return text


def timed(rows: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """The same rows; says on stderr how fast they came, the first, which is compiled, left out."""
    yield next(rows)
    start, count = time.perf_counter(), 0
    for row in rows:
        count += row.size
        yield row
    rate = count / max(time.perf_counter() - start, 1e-9)
    print(f"\n{short(rate)} tokens/s", file=sys.stderr)


def show_neighbours(values: flags.FlagValues, tokenizer: Tokenizer, embedding: Any) -> None:
    """Prints the tokens whose embeddings are most like that of `--word`."""
    tokens = encode_prompt(tokenizer, values.word)
    if len(tokens) != 1:
        raise ValueError(f"word: expected one token, got {values.word!r}, of {len(tokens)}.")
    for token, similarity in nearest_neighbours(embedding, tokens[0], values.neighbours):
        print(f"{similarity:6.3f}  {tokenizer.decode([token]) or f'token {token}'}")
