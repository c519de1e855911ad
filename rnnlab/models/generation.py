"""Samples of a language model, token by token."""

import functools
import itertools
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from rnnlab.core.types import Array, Key
from rnnlab.models.language import LanguageModel, LanguageModelParams


def generate(
    model: LanguageModel,
    params: LanguageModelParams,
    prompt: Sequence[int] | np.ndarray,
    key: Key,
    *,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
) -> Iterator[int]:
    """Samples tokens after a prompt, one step at a time and without end.

        softmax(logits / temperature), among the top_k likeliest, among the fewest likeliest whose
        probabilities add up to top_p or more

    Args:
      model: what to sample from.
      params: its parameters.
      prompt: one or more tokens, read first.
      key: consumed; token number i is drawn with `fold_in(key, i)`.
      temperature: below 1 sharpens the distribution, above 1 flattens it; 0 takes the likeliest.
      top_k: draws among the k likeliest tokens only; 0 draws among all.
      top_p: draws among the nucleus only; 1 draws among all.

    Returns:
      An iterator over the tokens that follow the prompt.

    Raises:
      ValueError: an empty prompt, or a temperature, top_k or top_p out of range.

    Example:
        >>> import itertools, jax, rnnlab
        >>> model = LanguageModel(100, 32, cells=(rnnlab.cells.LSTM(64),))
        >>> params = model.init(jax.random.key(0))
        >>> tokens = generate(model, params, [3, 1], jax.random.key(1), top_p=0.9)
        >>> len(list(itertools.islice(tokens, 5)))
        5

    References: Holtzman et al. 2020, "The curious case of neural text degeneration", for top_p. Of
    tokens that are equally likely those that come first are among the top_k and in the nucleus.
    """
    options = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    batch = generate_batch(model, params, prompt, key[None], **options)
    return (int(tokens[0]) for tokens in batch)


def generate_batch(
    model: LanguageModel,
    params: LanguageModelParams,
    prompt: Sequence[int] | np.ndarray,
    keys: Key,
    *,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
) -> Iterator[np.ndarray]:
    """Several samples after one prompt at once.

    Args:
      model: what to sample from.
      params: its parameters.
      prompt: one or more tokens, read first.
      keys: `[B]`, one for each sample, consumed; row b is what `generate` draws with `keys[b]`.
      temperature: as in `generate`.
      top_k: as in `generate`.
      top_p: as in `generate`.

    Returns:
      An iterator without end over the next tokens of all samples, int32 `[B]`.

    Raises:
      ValueError: as `generate`.
    """
    check_options(model, prompt, temperature, top_k, top_p)
    return _stream(model, params, prompt, keys, (float(temperature), int(top_k), float(top_p)))


def check_options(
    model: LanguageModel,
    prompt: Sequence[int] | np.ndarray,
    temperature: float,
    top_k: int,
    top_p: float,
) -> None:
    """Raises the ValueError of `generate`, if there is one; needs no parameters."""
    if len(prompt) == 0:
        raise ValueError("prompt: expected at least one token to start from, got none.")
    if not 0 <= temperature < float("inf"):
        raise ValueError(f"temperature: expected a number from 0 on, got {temperature}.")
    if not 0 <= top_k <= model.vocabulary_size:
        raise ValueError(
            f"top_k: expected 0 to {model.vocabulary_size}, the size of the vocabulary, got"
            f" {top_k}."
        )
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p: expected a number above 0, up to 1, got {top_p}.")


def _stream(model, params, prompt, keys, options) -> Iterator[np.ndarray]:
    carry = model.initial_carry(params, len(keys))
    *before, token = (jnp.full(len(keys), token, jnp.int32) for token in prompt)
    for read in before:
        carry = _read(model, params, carry, read)
    for index in itertools.count():
        carry, token = _draw(model, params, carry, token, keys, index, options)
        yield np.asarray(token)


@functools.partial(jax.jit, static_argnames="model")
def _read(model, params, carry, token):
    return model.step(params, carry, token)[0]


@functools.partial(jax.jit, static_argnames=("model", "options"))
def _draw(model, params, carry, token, keys, index, options):
    """Reads a token `[B]`; the carry after it and a draw of the next, int32 `[B]`."""
    carry, logits = model.step(params, carry, token)
    keys = jax.vmap(jax.random.fold_in, (0, None))(keys, index)
    return carry, jax.vmap(lambda key, row: _sample(key, row, *options))(keys, logits)


def _sample(key: Key, logits: Array, temperature: float, top_k: int, top_p: float) -> Array:
    """A token drawn by its logits `[V]`, int32 `[]`."""
    if temperature == 0:
        return jnp.argmax(logits).astype(jnp.int32)
    logits = logits.astype(jnp.float32) / temperature
    if top_k:
        values, places = jax.lax.top_k(logits, top_k)
        logits = jnp.full_like(logits, -jnp.inf).at[places].set(values)
    if top_p < 1:
        logits = jnp.where(_nucleus(logits, top_p), logits, -jnp.inf)
    return jax.random.categorical(key, logits).astype(jnp.int32)


def _nucleus(logits: Array, top_p: float) -> Array:
    """Which tokens `[V]` are the fewest likeliest that together have `top_p` or more."""
    order = jnp.argsort(-logits)
    sums = jnp.cumsum(jax.nn.softmax(logits)[order])
    before = jnp.concatenate([jnp.zeros(1, sums.dtype), sums[:-1]])
    return jnp.zeros(logits.shape, bool).at[order].set(before < top_p)
