"""How tests of cells compare: values and gradients, leaf by leaf."""

import functools

import jax
import jax.numpy as jnp

from rnnlab import testing


def agree(got, expected, tolerance=1e-10):
    assert testing.largest_difference(got, expected) < tolerance


def weights_like(tree):
    """A fixed direction with no special values."""
    return jax.tree.map(lambda a: jnp.sin(jnp.arange(1.0, 1 + a.size)).reshape(a.shape), tree)


def values_and_gradients(run, *arguments):
    """Of parameters and whatever else, through the outputs and the last carry."""
    values, vjp = jax.jit(functools.partial(jax.vjp, run))(*arguments)
    return values, vjp(weights_like(values))
