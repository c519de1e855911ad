"""How parameters are drawn. All return float32: cast the tree to compute in another dtype."""

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
