"""Numerical helpers that cells share: dtypes, the two matmuls of a cell, gates, layer norm.

Broadcasting is spelled out everywhere, so that cells run under jax's strictest settings.
"""

import math
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
    "silu": jax.nn.silu,
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


def check_features(x: Array, kernel: Array) -> None:
    """Refuses an input `[..., F]` that a kernel `[..., F, K]` was not made for."""
    if not hasattr(x, "ndim"):
        raise TypeError(f"x: expected one array [..., F], got {type(x).__name__}.")
    if jnp.iscomplexobj(x) and not jnp.iscomplexobj(kernel):
        raise TypeError(f"x: expected real inputs for a real kernel, got {x.dtype}. Split them up.")
    if x.ndim < 1 or x.shape[-1] != kernel.shape[-2]:
        got = f"shape {x.shape}" if x.ndim < 1 else f"{x.shape[-1]} features, shape {x.shape}"
        raise ValueError(
            f"x: expected {kernel.shape[-2]} features on its last axis, as the parameters were made"
            f" for, got {got}. Initialise with in_features={x.shape[-1] if x.ndim else 1}, or feed"
            f" x with {kernel.shape[-2]} features."
        )


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
    check_features(x, kernel)
    z = jnp.matmul(x.astype(kernel.dtype), kernel, preferred_element_type=wide_dtype(kernel))
    return z if bias is None else z + widened(bias, z)


def linear_or_same(x: Array, kernel: Array | None, like: Array) -> Array:
    """x @ kernel, or x itself for None, in the wide dtype of the parameter `like`."""
    return x.astype(like.dtype).astype(wide_dtype(like)) if kernel is None else linear(x, kernel)


def real_product(h: Array, real: Array, imag: Array) -> Array:
    """Re(h @ (real + i imag)) of a complex h, from a matrix stored as two real ones."""
    return linear(h.real, real) - linear(h.imag, imag)


def kernel_product(h: Array, kernel: Array) -> Array:
    """u = h @ kernel, in the wide dtype, for each of the three kinds of recurrent kernel.

    Args:
      h: `[..., H]`.
      kernel: dense `[H, K]`, block-diagonal `[N, D, K]` with N * D = H, or diagonal `[K]`: for each
        of K / H gates its own diagonal, side by side.

    Returns:
      `[..., K]`, `[..., N, K]` or `[..., K]`.

    Raises:
      ValueError: h does not have the features that the kernel multiplies.
    """
    features = h.shape[-1]
    # A diagonal fits if h goes into it a whole number of times.
    rows = math.prod(kernel.shape[:-1]) if kernel.ndim > 1 else math.gcd(*kernel.shape, features)
    if features != rows:
        raise ValueError(
            f"recurrent_kernel: expected {features} rows, the features of the carry it"
            f" multiplies, got shape {kernel.shape}. Are the params those of this cell?"
        )
    wide = wide_dtype(kernel)
    if kernel.ndim == 1:
        h = jnp.tile(h.astype(wide), kernel.shape[0] // features)
        return h * widened(kernel, h)
    h = h.astype(kernel.dtype)
    if kernel.ndim == 2:
        return jnp.matmul(h, kernel, preferred_element_type=wide)
    heads = h.reshape(*h.shape[:-1], *kernel.shape[:2])
    return jnp.einsum("...nd,ndk->...nk", heads, kernel, preferred_element_type=wide)


def symmetric_skew_mix(matrix: Array, beta: float, gamma: float) -> Array:
    """(1 - beta) (M + M^T) + beta (M - M^T) - gamma I of a square matrix M.

    The real parts of its eigenvalues are at most (1 - beta) max eig(M + M^T) - gamma: those of the
    skew part vanish.

    References: Erichson et al. 2021, "Lipschitz recurrent neural networks"; beta = 1 is
    Chang et al. 2019, "AntisymmetricRNN".
    """
    mixed = (1 - beta) * (matrix + matrix.T) + beta * (matrix - matrix.T)
    return mixed - gamma * jnp.eye(len(matrix), dtype=matrix.dtype)


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


def lstm_update(c: Array, preactivations: Array) -> tuple[Array, Array]:
    """The new c and h of a plain LSTM from c `[..., H]` and the gates i, f, g, o `[..., 4H]`."""
    i, f, g, o = gates(preactivations, ("sigmoid", "sigmoid", "tanh", "sigmoid"))
    c = f * c + i * g
    return c, o * separate_pass(jnp.tanh(c))


def reset_before_update(
    h: Array, z: Array, kernel: Array, product: Callable[[Array, Array], Array]
) -> Array:
    """The new h of a GRU whose reset gate acts on h, not on its product with the kernel.

    Args:
      h: `[..., H]`.
      z: what the input gives to the gates r, z, n, `[..., 3H]`.
      kernel: `[..., H, 3H]`.
      product: of h and a part of the kernel: `kernel_product` or `convolve`.
    """
    cut = [2 * h.shape[-1]]
    z_rz, z_n = jnp.split(z, cut, axis=-1)
    kernel_rz, kernel_n = jnp.split(kernel, cut, axis=-1)
    reset, update = gates(z_rz + product(h, kernel_rz), ("sigmoid", "sigmoid"))
    new = separate_pass(jnp.tanh(z_n + product(reset * h, kernel_n)))
    return (1 - update) * new + update * h


def reset_after_update(h: Array, z: Array, u: Array, bias: Array | None = None) -> Array:
    """The new h of a GRU whose reset gate acts on the product of h with the kernel.

    Args:
      h: `[..., H]`.
      z: what the input gives to the gates r, z, n, `[..., 3H]`.
      u: what h gives to them, `[..., 3H]`.
      bias: of the u of n, `[H]`, or None.
    """
    cut = [2 * h.shape[-1]]
    (z_rz, z_n), (u_rz, u_n) = jnp.split(z, cut, axis=-1), jnp.split(u, cut, axis=-1)
    reset, update = gates(z_rz + u_rz, ("sigmoid", "sigmoid"))
    inner = u_n if bias is None else u_n + widened(bias, u_n)
    new = separate_pass(jnp.tanh(z_n + reset * inner))
    return (1 - update) * new + update * h


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


def unit_norm(a: Array, epsilon: float = 1e-6) -> Array:
    """a / sqrt(|a|^2 + epsilon) over the last axis of `[..., K]`, finite with its gradient at 0."""
    return a * lax.rsqrt(jnp.sum(jnp.square(a), axis=-1, keepdims=True) + epsilon)


def rms_norm(a: Array, scale: Array, epsilon: float = 1e-5) -> Array:
    """a / sqrt(mean(a^2) + epsilon) * scale over the last axis of `[..., K]`.

    References: Zhang & Sennrich 2019, "Root mean square layer normalization".
    """
    power = jnp.mean(jnp.square(a), axis=-1, keepdims=True)
    return a * lax.rsqrt(power + epsilon) * widened(scale, a)


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
