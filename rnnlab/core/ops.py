"""Numerical helpers that cells share: dtypes, the two matmuls of a cell, gates, layer norm.

Broadcasting is spelled out everywhere, so that cells run under jax's strictest settings.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rnnlab.core.types import Array, PyTree

Activation = str | Callable[[Array], Array]

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "leaky_relu": jax.nn.leaky_relu,
    "sigmoid": jax.nn.sigmoid,
    "identity": lambda x: x,
}


def activation_function(activation: Activation) -> Callable[[Array], Array]:
    """The function behind a name of `ACTIVATIONS`; a function is returned as it is.

    Raises:
      ValueError: the name is not in `ACTIVATIONS`.
    """
    if callable(activation):
        return activation
    if not isinstance(activation, str) or activation not in ACTIVATIONS:
        raise ValueError(
            f"activation: expected one of {sorted(ACTIVATIONS)} or a module-level function,"
            f" got {activation!r}."
        )
    return ACTIVATIONS[activation]


def wide_dtype(params: Array) -> np.dtype:
    """The dtype of gates and carries: the wider of float32 and the dtype of `params`."""
    return jax.dtypes.canonicalize_dtype(np.promote_types(np.float32, params.dtype))


def broadcast_to_rank(a: Array, like: Array) -> Array:
    """`a` with leading axes of size 1, so that it combines with `like`, `[..., *a.shape]`."""
    return lax.expand_dims(a, range(like.ndim - a.ndim))


def widened(a: Array, like: Array) -> Array:
    """A gate parameter such as a bias, ready to combine with `like`, `[..., *a.shape]`."""
    return broadcast_to_rank(a.astype(like.dtype), like)


def linear(x: Array, kernel: Array, bias: Array | None = None) -> Array:
    """x @ kernel + bias, computed in the kernel's dtype, accumulated in the wide dtype.

    Args:
      x: `[..., F]`, cast to the kernel's dtype.
      kernel: `[F, K]`.
      bias: `[K]`, or None.

    Returns:
      `[..., K]` in the wide dtype.

    Raises:
      ValueError: x does not have F features.
      TypeError: x is no single array, or complex where the kernel is real.
    """
    if not hasattr(x, "ndim"):
        raise TypeError(f"x: expected one array [..., F], got {type(x).__name__}.")
    if jnp.iscomplexobj(x) and not jnp.iscomplexobj(kernel):
        raise TypeError(f"x: expected real inputs for a real kernel, got {x.dtype}. Split them up.")
    if x.ndim < 1 or x.shape[-1] != kernel.shape[0]:
        got = f"shape {x.shape}" if x.ndim < 1 else f"{x.shape[-1]} features, shape {x.shape}"
        raise ValueError(
            f"x: expected {kernel.shape[0]} features on its last axis, as the parameters were made"
            f" for, got {got}. Initialise with in_features={x.shape[-1] if x.ndim else 1}, or feed"
            f" x with {kernel.shape[0]} features."
        )
    z = jnp.matmul(x.astype(kernel.dtype), kernel, preferred_element_type=wide_dtype(kernel))
    return z if bias is None else z + widened(bias, z)


def kernel_product(h: Array, kernel: Array) -> Array:
    """u = h @ kernel, in the wide dtype, for each of the three kinds of recurrent kernel.

    Args:
      h: `[..., H]`.
      kernel: dense `[H, K]`, block-diagonal `[N, D, K]` with N * D = H, or diagonal `[H]`.

    Returns:
      `[..., K]`, `[..., N, K]` or `[..., H]`.

    Raises:
      ValueError: h does not have the features that the kernel multiplies.
    """
    rows = kernel.shape[0] * (kernel.shape[1] if kernel.ndim == 3 else 1)
    if h.shape[-1] != rows:
        raise ValueError(
            f"recurrent_kernel: expected {h.shape[-1]} rows, the features of the carry it"
            f" multiplies, got shape {kernel.shape}. Are the params those of this cell?"
        )
    wide = wide_dtype(kernel)
    if kernel.ndim == 1:
        return h.astype(wide) * broadcast_to_rank(kernel.astype(wide), h)
    h = h.astype(kernel.dtype)
    if kernel.ndim == 2:
        return jnp.matmul(h, kernel, preferred_element_type=wide)
    heads = h.reshape(*h.shape[:-1], *kernel.shape[:2])
    return jnp.einsum("...nd,ndk->...nk", heads, kernel, preferred_element_type=wide)


def gates(preactivations: Array, kinds: tuple[str, ...]) -> list[Array]:
    """Splits `[..., G * H]` into G gates and applies a sigmoid or a tanh to each.

    All are evaluated by one tanh over the whole tensor, since
    sigmoid(x) = tanh(x / 2) / 2 + 1 / 2. On a CPU a barrier keeps that pass apart from what
    follows; without it XLA recomputes the transcendentals once per consumer.

    Args:
      preactivations: `[..., G * H]`.
      kinds: "sigmoid" or "tanh" for each of the G gates, in order.

    Returns:
      G arrays `[..., H]`.
    """
    sigmoid = jnp.repeat(
        jnp.asarray([kind == "sigmoid" for kind in kinds]), preactivations.shape[-1] // len(kinds)
    )
    sigmoid = broadcast_to_rank(sigmoid, preactivations)
    t = separate_pass(jnp.tanh(jnp.where(sigmoid, 0.5 * preactivations, preactivations)))
    parts = jnp.split(t, len(kinds), axis=-1)
    return [0.5 * p + 0.5 if k == "sigmoid" else p for p, k in zip(parts, kinds, strict=True)]


def separate_pass(a: Array) -> Array:
    """`a`, computed once: a barrier against XLA's fusion where jax runs on a CPU.

    It asks the process that traces: a program exported from there to a GPU keeps the barriers,
    which are harmless to its results.
    """
    return lax.optimization_barrier(a) if jax.default_backend() == "cpu" else a


def layer_norm(a: Array, scale: Array, bias: Array | None = None, epsilon: float = 1e-5) -> Array:
    """(a - mean) / sqrt(variance + epsilon) * scale + bias over the last axis of `[..., K]`.

    References: Ba et al. 2016, "Layer normalization".
    """
    centred = a - jnp.mean(a, axis=-1, keepdims=True)
    variance = jnp.mean(jnp.square(centred), axis=-1, keepdims=True)
    normal = centred * lax.rsqrt(variance + epsilon) * widened(scale, a)
    return normal if bias is None else normal + widened(bias, a)


def select(flag: Array, on: Array, off: Array) -> Array:
    """`where(flag, on, off)` with `flag` `[*lead]` spread over the trailing axes of `off`.

    Args:
      flag: bool `[*lead]`.
      on: an array that broadcasts to `off` from the right, such as a zero.
      off: `[*lead, ...]`.
    """
    flag = lax.expand_dims(flag, range(flag.ndim, off.ndim))
    return jnp.where(flag, broadcast_to_rank(on, off), off)


def zero_unless(flag: Array | None, tree: PyTree) -> PyTree:
    """`tree` where `flag` is set and zero elsewhere, whatever stood there; all of it for None."""
    if flag is None:
        return tree
    return jax.tree.map(lambda a: select(~flag, jnp.zeros((), a.dtype), a), tree)
