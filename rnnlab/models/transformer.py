"""A Transformer: blocks of self-attention and of a perceptron for each step."""

import dataclasses
import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rnnlab.core.checks import check_heads, check_size
from rnnlab.core.initializers import input_kernel, matching_kernel
from rnnlab.core.ops import layer_norm, linear, linear_or_same, wide_dtype
from rnnlab.core.types import Array, Key
from rnnlab.models.history import Dropout, HistoryBody, Window


class NormParams(NamedTuple):
    """Parameters of a layer norm."""

    scale: Array  # [H]
    bias: Array  # [H]


class TransformerBlockParams(NamedTuple):
    """Parameters of a block of a `Transformer`."""

    attention_norm: NormParams
    kernel: Array  # [H, 3H]: queries, keys, values
    bias: Array  # [3H]
    output_kernel: Array  # [H, H]
    output_bias: Array  # [H]
    norm: NormParams
    up_kernel: Array  # [H, M]
    up_bias: Array  # [M]
    down_kernel: Array  # [M, H]
    down_bias: Array  # [H]


class TransformerParams(NamedTuple):
    """Parameters of `Transformer`."""

    input_kernel: Array | None  # [F, H]; None where F = H
    blocks: tuple[TransformerBlockParams, ...]
    norm: NormParams


class KeysAndValues(NamedTuple):
    """What a block remembers."""

    keys: Array  # [B, N, P, D], rotated
    values: Array  # [B, N, P, D]


@dataclasses.dataclass(frozen=True)
class Transformer(HistoryBody):
    """Pre-norm blocks of multi-head self-attention and a perceptron, with rotary positions.

        u = x + attention(norm(x)),    y = u + gelu(norm(u) W_up + b_up) W_down + b_down

    A step attends to itself and to the `context - 1` steps of its text before it, whose keys and
    values are the carry; so every block looks that much further back than the one below.

    Args:
      features: H, an even number for each head.
      blocks: how many.
      heads: N, of D = H / N features.
      context: steps that attention reaches over, the step itself included.
      causal: whether a step sees only what came before it. If not, it sees as far ahead as it sees
        back, and a window is read whole: there is no carry from one to the next.
      hidden_features: M; None: 4 H.

    Raises:
      ValueError: a size below 1, or features that give no even number to each head.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from rnnlab.models import Transformer
        >>> body = Transformer(features=8, heads=2, context=16)
        >>> params = body.init(jax.random.key(0), in_features=3)
        >>> carry, ys = body.apply(params, jnp.ones((10, 2, 3)))
        >>> ys.shape
        (10, 2, 8)

    References: Vaswani et al. 2017, "Attention is all you need"; Xiong et al. 2020, "On layer
    normalization in the Transformer architecture" (pre-norm); Su et al. 2021, "RoFormer" (rotary
    positions); Radford et al. 2019, "Language models are unsupervised multitask learners" (kernels
    into the residual stream drawn smaller with depth); Dai et al. 2019, "Transformer-XL" (what the
    window before left, without a gradient into it where the trainer takes none).
    """

    features: int
    blocks: int = 2
    heads: int = 4
    context: int = 64
    causal: bool = True
    hidden_features: int | None = None

    def __post_init__(self):
        check_size("Transformer", blocks=self.blocks, context=self.context)
        check_heads("Transformer", self.features, self.heads)
        if self.features // self.heads % 2:
            raise ValueError(
                "Transformer: expected an even number of features for each head, to rotate in"
                f" pairs, got features={self.features} and heads={self.heads}."
            )
        if self.hidden_features is not None:
            check_size("Transformer", hidden_features=self.hidden_features)

    def init(self, key: Key, in_features: int) -> TransformerParams:
        key, *keys = jax.random.split(key, 1 + self.blocks)
        return TransformerParams(
            matching_kernel(key, in_features, self.features),
            tuple(self._init_block(key) for key in keys),
            _norm(self.features),
        )

    def _init_block(self, key: Key) -> TransformerBlockParams:
        size, hidden = self.features, self.hidden_features or 4 * self.features
        keys = jax.random.split(key, 4)
        shrink = (2 * self.blocks) ** -0.5
        return TransformerBlockParams(
            _norm(size),
            input_kernel(keys[0], size, 3 * size),
            jnp.zeros(3 * size),
            shrink * input_kernel(keys[1], size, size),
            jnp.zeros(size),
            _norm(size),
            input_kernel(keys[2], size, hidden),
            jnp.zeros(hidden),
            shrink * input_kernel(keys[3], hidden, size),
            jnp.zeros(size),
        )

    def rings(self, params: TransformerParams, batch_size: int) -> tuple[KeysAndValues, ...]:
        size = max(1, self.context - 1) if self.causal else 1
        shape = batch_size, self.heads, size, self.features // self.heads
        dtype = wide_dtype(params.norm.scale)
        return tuple(
            KeysAndValues(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype)) for _ in params.blocks
        )

    def run(
        self,
        params: TransformerParams,
        xs: Array,
        rings: tuple[KeysAndValues, ...],
        window: Window,
        drop: Dropout,
    ) -> tuple[tuple[KeysAndValues, ...], Array]:
        if not self.causal and not window.fresh:
            raise ValueError(
                "Transformer: expected no carry with causal=False, which reads a window whole, got"
                " one. Leave it out, or use causal=True."
            )
        sight = self._sight(window)
        xs = drop(0, linear_or_same(xs, params.input_kernel, params.norm.scale))
        after = []
        for number, (block, old) in enumerate(zip(params.blocks, rings, strict=True)):
            ys, new = self._attend(block, layer_norm(xs, *block.attention_norm), old, sight, window)
            xs = xs + drop(2 * number + 1, ys)
            xs = xs + drop(2 * number + 2, _perceptron(block, layer_norm(xs, *block.norm)))
            after.append(new)
        return tuple(after), layer_norm(xs, *params.norm).astype(params.norm.scale.dtype)

    def _sight(self, window: Window) -> list[Array]:
        """Which steps see which, bool `[B, 1, T, S]`: of the window, then of those before it."""
        steps = jnp.arange(window.seen.shape[1], dtype=jnp.int32)
        start = steps - window.seen  # [B, T], where the text of each step starts
        ago = steps[:, None] - steps
        near = (ago >= 0) & (ago < self.context) if self.causal else abs(ago) < self.context
        sight = [near & (start[:, :, None] == start[:, None, :])]
        if not self.causal:
            sight[0] &= (steps < window.count[:, None])[:, None, :]
        elif not window.fresh:
            slots = jnp.arange(max(1, self.context - 1), dtype=jnp.int32)
            before = (window.position[:, None] - 1 - slots) % len(slots) + 1  # the first step
            ago = steps[:, None] + before[:, None, :]
            sight.append((ago < self.context) & (ago <= window.seen[:, :, None]))
        return [seen[:, None] for seen in sight]

    def _attend(
        self,
        block: TransformerBlockParams,
        xs: Array,
        old: KeysAndValues,
        sight: list[Array],
        window: Window,
    ) -> tuple[Array, KeysAndValues]:
        """Attention of `[B, T, H]`, and what is remembered of it."""
        dtype = block.kernel.dtype
        shape = *xs.shape[:2], 3, self.heads, self.features // self.heads
        parts = linear(xs, block.kernel, block.bias).reshape(shape)
        queries, keys, values = jnp.moveaxis(parts, (2, 3), (0, 2))  # [B, N, T, D] each
        cosine, sine = _angles(window.positions(), queries)
        queries = _rotate(queries, cosine, sine).astype(dtype) / math.sqrt(shape[-1])
        new = KeysAndValues(_rotate(keys, cosine, sine), values)
        # Two products instead of one with all keys side by side: a step copies none of them.
        sources = [jax.tree.map(lambda a: a.astype(dtype), part) for part in (new, old)]
        sources = sources[: len(sight)]
        product = functools.partial(jnp.einsum, preferred_element_type=xs.dtype)
        scores = [product("bntd,bnsd->bnts", queries, part.keys) for part in sources]
        lowest = jnp.finfo(xs.dtype).min
        scores = [jnp.where(seen, s, lowest) for seen, s in zip(sight, scores, strict=True)]
        weights = jax.nn.softmax(jnp.concatenate(scores, axis=-1), axis=-1).astype(dtype)
        weights = jnp.split(weights, [xs.shape[1]], axis=-1)[: len(sight)]
        ys = jnp.zeros((), xs.dtype)
        for w, part in zip(weights, sources, strict=True):
            ys += product("bnts,bnsd->btnd", w, part.values)
        ys = linear(lax.collapse(ys, 2), block.output_kernel, block.output_bias)
        if self.causal:
            new = jax.tree.map(jax.vmap(window.write, 1, 1), old, new)
        return ys, new if self.causal else old


def _norm(features: int) -> NormParams:
    return NormParams(jnp.ones(features), jnp.zeros(features))


def _perceptron(block: TransformerBlockParams, xs: Array) -> Array:
    hidden = jax.nn.gelu(linear(xs, block.up_kernel, block.up_bias))
    return linear(hidden, block.down_kernel, block.down_bias)


def _angles(positions: Array, like: Array) -> tuple[Array, Array]:
    """Cosine and sine of the angle of each pair, `[B, 1, T, D / 2]`, at positions `[B, T]`.

    Pair i turns by 10000^(-2i/D) a step. Integers that wrap around count turns in units of 2^-32
    of a circle, so angles are as exact after a million steps as after one.
    """
    pairs = like.shape[-1] // 2
    speeds = 10000.0 ** -(np.arange(pairs) / pairs) / (2 * math.pi)
    speeds = np.round(speeds * 2**32).astype(np.uint32)
    turns = lax.bitcast_convert_type(positions.astype(jnp.uint32)[..., None] * speeds, jnp.int32)
    angles = turns[:, None].astype(like.dtype) * jnp.asarray(2 * math.pi / 2**32, like.dtype)
    return jnp.cos(angles), jnp.sin(angles)


def _rotate(xs: Array, cosine: Array, sine: Array) -> Array:
    """`[B, N, T, D]` with the first half of the features paired with the second."""
    a, b = jnp.split(xs, 2, axis=-1)
    return jnp.concatenate([a * cosine - b * sine, a * sine + b * cosine], axis=-1)
