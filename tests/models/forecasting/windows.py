"""Windows for tests: random values, some of them missing, whose places can be filled."""

import jax
import jax.numpy as jnp
import numpy as np

from rnnlab.models.forecasting import Window


def random_window(model, batch=3, seed=0, missing=0.2, positive=False):
    """A window of the sizes of `model`; the first row is padded on the left."""
    rng = np.random.default_rng(seed)
    context, horizon, channels, covariates = (
        getattr(model, name) for name in ("context", "horizon", "channels", "covariates")
    )
    values = rng.normal(size=(batch, context + horizon, channels))
    values = np.exp(values / 4) if positive else values
    mask = rng.random(values.shape) >= missing
    mask[0, : context // 3] = False
    values = np.where(mask, values, 0).astype(np.float32)
    known = rng.normal(size=(batch, context + horizon, covariates)).astype(np.float32)
    return Window(
        past=jnp.asarray(values[:, :context]),
        past_mask=jnp.asarray(mask[:, :context]),
        past_covariates=jnp.asarray(known[:, :context]),
        future_covariates=jnp.asarray(known[:, context:]),
        future=jnp.asarray(values[:, context:]),
        future_mask=jnp.asarray(mask[:, context:]),
        series=jnp.arange(batch, dtype=jnp.int32),
    )


def filled(window, value):
    """The same window with `value` wherever nothing was observed."""
    return window._replace(
        past=jnp.where(window.past_mask, window.past, value),
        future=jnp.where(window.future_mask, window.future, value),
    )


def total_loss(model, params, window, key=None):
    losses, weights = model.losses(params, window, key)
    return jnp.sum(losses * weights) / jnp.sum(weights)


def everything(model):
    """window -> forecast, and what goes to an optimizer: (loss, gradients); in one program."""
    params = model.init(jax.random.key(0))

    @jax.jit
    def compute(window):
        loss = jax.value_and_grad(lambda params: total_loss(model, params, window))(params)
        return model.forecast(params, window), loss

    return compute
