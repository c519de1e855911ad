"""How parameters are drawn. All return float32: cast the tree to compute in another dtype."""

import math

import jax
import jax.numpy as jnp

from rnnlab.core.checks import check_size
from rnnlab.core.types import Array, Key

_lecun_normal = jax.nn.initializers.lecun_normal()
_orthogonal = jax.nn.initializers.orthogonal()


def input_kernel(key: Key, in_features: int, features: int) -> Array:
    """A `[F, K]` kernel with variance 1 / F (LeCun normal)."""
    check_size("init", in_features=in_features)
    return _lecun_normal(key, (in_features, features), jnp.float32)


def orthogonal_blocks(key: Key, features: int, block: int, blocks: int) -> Array:
    """`[features, blocks * block]`: an orthogonal matrix for each gate, not one over all of them.

    References: Saxe et al. 2014, "Exact solutions to the nonlinear dynamics of learning".
    """
    keys = jax.random.split(key, blocks)
    return jnp.concatenate([_orthogonal(k, (features, block), jnp.float32) for k in keys], axis=1)


def gate_bias(features: int, values: tuple[float, ...]) -> Array:
    """`[len(values) * features]`: a constant bias for each gate, in gate order."""
    return jnp.repeat(jnp.asarray(values, jnp.float32), features)


def matching_kernel(key: Key, in_features: int, features: int) -> Array | None:
    """A `[F, H]` kernel that brings inputs to H features; None where they have as many."""
    check_size("init", in_features=in_features)
    return None if in_features == features else input_kernel(key, in_features, features)


def log_uniform(key: Key, features: int, low: float, high: float) -> Array:
    """`[features]`: logarithms of numbers from `low` to `high`, uniform themselves."""
    return jax.random.uniform(key, (features,), jnp.float32, math.log(low), math.log(high))


def step_bias(key: Key, features: int, low: float, high: float) -> Array:
    """`[features]`: biases b whose softplus(b) is `log_uniform`: the steps of a selective model.

    References: Gu & Dao 2023, "Mamba", section 3.6, where the step itself is uniform; its logarithm
    is, as in the authors' code.
    """
    step = jnp.exp(log_uniform(key, features, low, high))
    return step + jnp.log(-jnp.expm1(-step))


def rate_log(key: Key, heads: int) -> Array:
    """`[heads]`: logarithms of decay rates, uniform from 1 to 16.

    References: Dao & Gu 2024, "Transformers are SSMs" (Mamba-2), the authors' code.
    """
    return jnp.log(jax.random.uniform(key, (heads,), jnp.float32, 1, 16))


def check_steps(owner: str, min_step: float, max_step: float) -> None:
    """Refuses a range of starting steps that is empty or reaches zero."""
    if not 0 < min_step < max_step < math.inf:
        raise ValueError(
            f"{owner}: expected 0 < min_step < max_step, got min_step={min_step},"
            f" max_step={max_step}."
        )
