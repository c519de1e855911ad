"""The optimizer recipes of experiments, put together from optax."""

import jax
import jax.numpy as jnp
import optax


def warmup_cosine(learning_rate: float, warmup_steps: int, decay_steps: int) -> optax.Schedule:
    """Rises linearly for `warmup_steps`, then falls as half a cosine to 1 % at `decay_steps`.

    It depends on the step alone, not on the length of the run, so a run may be made longer.

    Args:
      learning_rate: the highest, at step `warmup_steps`.
      warmup_steps: 0 starts at the highest; the first step is never 0.
      decay_steps: from here on it stays; 0 stays at the highest.
    """

    def schedule(step):
        rise = jnp.minimum((step + 1) / (warmup_steps + 1), 1.0)
        if not decay_steps:
            return learning_rate * rise
        done = jnp.clip((step - warmup_steps) / max(decay_steps - warmup_steps, 1), 0.0, 1.0)
        return learning_rate * rise * (0.01 + 0.99 * (1 + jnp.cos(jnp.pi * done)) / 2)

    return schedule


def adamw(
    learning_rate: optax.ScalarOrSchedule, *, clip_norm: float = 0.0, weight_decay: float = 0.0
) -> optax.GradientTransformation:
    """AdamW on gradients clipped by their global norm, biases and other vectors not decayed.

    Args:
      learning_rate: a number or a schedule; `learning_rate_of` reads it from the state.
      clip_norm: the largest global norm; 0 does not clip.
      weight_decay: per unit of learning rate, of leaves with two axes or more.
    """

    def recipe(learning_rate):
        return optax.chain(
            optax.clip_by_global_norm(clip_norm) if clip_norm else optax.identity(),
            optax.adamw(learning_rate, weight_decay=weight_decay, mask=_matrices),
        )

    return optax.inject_hyperparams(recipe)(learning_rate=learning_rate)


def learning_rate_of(opt_state: optax.OptState) -> jax.Array | None:
    """The learning rate of the last update, of an optimizer under `optax.inject_hyperparams`."""
    return getattr(opt_state, "hyperparams", {}).get("learning_rate")


def _matrices(params):
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)
