"""Optimizers and learning rate schedules by name, put together from optax."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from rnnlab.training.averaging import AveragedState, ema, nt_asgd

OPTIMIZERS: Mapping[str, Callable[..., optax.GradientTransformation]] = {
    name: getattr(optax, name)
    for name in (
        *("adabelief", "adadelta", "adafactor", "adagrad", "adam", "adamax", "adamaxw", "adamw"),
        *("adan", "amsgrad", "lamb", "lars", "lion", "nadam", "nadamw", "novograd", "radam"),
        *("rmsprop", "sgd", "sign_sgd", "yogi"),
    )
}
"""Flag name -> optax's function of that name, which takes a `learning_rate`."""

SCHEDULES: Mapping[str, Callable[[jax.Array], jax.Array]] = {
    "constant": lambda done: jnp.ones_like(done),
    "linear": lambda done: 1 - done,
    "cosine": lambda done: (1 + jnp.cos(jnp.pi * done)) / 2,
}
"""Flag name -> what is left of the learning rate, 1 to 0, when a part `done` of the decay is."""

AVERAGES = ("none", "ema", "nt_asgd")
"""What may be averaged over the updates, by flag name."""


def make_schedule(
    name: str, learning_rate: float, warmup_steps: int = 0, decay_steps: int = 0
) -> optax.Schedule:
    """Rises linearly for `warmup_steps`, then falls to 1 % at `decay_steps`.

    It depends on the step alone, not on the length of the run, so a run may be made longer.

    Args:
      name: one of `SCHEDULES`: the shape of the fall.
      learning_rate: the highest, at step `warmup_steps`.
      warmup_steps: 0 starts at the highest; the first step is never 0.
      decay_steps: from here on it stays; 0 stays at the highest.

    Example:
        >>> schedule = make_schedule("linear", 0.1, decay_steps=100)
        >>> round(float(schedule(50)), 4)
        0.0505
    """
    _expect("schedule", name, SCHEDULES)

    def schedule(step):
        rise = jnp.minimum((step + 1) / (warmup_steps + 1), 1.0)
        if not decay_steps:
            return learning_rate * rise
        done = jnp.clip((step - warmup_steps) / max(decay_steps - warmup_steps, 1), 0.0, 1.0)
        return learning_rate * rise * (0.01 + 0.99 * SCHEDULES[name](done))

    return schedule


def make_optimizer(
    name: str,
    learning_rate: optax.ScalarOrSchedule,
    *,
    clip_norm: float = 0.0,
    clip_value: float = 0.0,
    weight_decay: float = 0.0,
    average: str = "none",
    average_decay: float = 0.999,
    average_patience: int = 5,
    full_weight: float = 0.0,
    options: Mapping[str, Any] | None = None,
) -> optax.GradientTransformationExtraArgs:
    """An optimizer of optax behind clipping, with decay of kernels alone, below an average.

    Args:
      name: one of `OPTIMIZERS`.
      learning_rate: a number or a schedule; `learning_rate_of` reads it from the state.
      clip_norm: the largest global norm of the gradients; 0 does not clip.
      clip_value: the largest size of one gradient, before `clip_norm`; 0 does not clip.
      weight_decay: of leaves with two axes or more, so not of biases and norms. Where the
        optimizer has a decay of its own (adamw, lion, ...) it is that one, per unit of learning
        rate; elsewhere it is L2, added to the clipped gradient.
      average: "none", "ema" or "nt_asgd": the parameters that are evaluated.
      average_decay: of "ema".
      average_patience: of "nt_asgd", in evaluations.
      full_weight: of a batch that is worth one whole update; an update is multiplied by what the
        weight of its batch is of it. 0 makes whole updates of all batches.
      options: other arguments of the optimizer, such as `{"momentum": 0.9}`.

    Raises:
      ValueError: an unknown name or option, or a number out of range.
    """
    _expect("optimizer", name, OPTIMIZERS)
    _expect("average", average, AVERAGES)
    numbers = {"clip_norm": clip_norm, "clip_value": clip_value, "weight_decay": weight_decay}
    numbers |= {"full_weight": full_weight}
    for what, value in numbers.items():
        if not value >= 0:
            raise ValueError(f"{what}: expected at least 0, got {value}.")
    rule = OPTIMIZERS[name]
    known, options = inspect.signature(rule).parameters, dict(options or {})
    for option in options:
        _expect(f"an option of {name}", option, [other for other in known if other not in _OURS])
    masks = [mask for mask in ("mask", "weight_decay_mask") if {"weight_decay", mask} <= {*known}]
    l2 = 0.0 if masks else weight_decay
    if masks:
        options |= {"weight_decay": weight_decay, masks[0]: _matrices}

    def recipe(learning_rate):
        return optax.chain(
            optax.clip(clip_value) if clip_value else optax.identity(),
            optax.clip_by_global_norm(clip_norm) if clip_norm else optax.identity(),
            optax.add_decayed_weights(l2, mask=_matrices) if l2 else optax.identity(),
            rule(learning_rate=learning_rate, **options),
        )

    optimizer: Any = optax.inject_hyperparams(recipe)(learning_rate=learning_rate)
    if full_weight:
        optimizer = scale_by_weight(optimizer, full_weight)
    if average == "ema":
        return ema(optimizer, average_decay)
    if average == "nt_asgd":
        return nt_asgd(optimizer, average_patience)
    return optimizer


def scale_by_weight(
    inner: optax.GradientTransformation, full_weight: float
) -> optax.GradientTransformationExtraArgs:
    """Updates in proportion to the weight of their batch, as if the learning rate were.

        update * weight / full_weight

    Args:
      inner: makes the updates; its state is that of the whole.
      full_weight: more than 0.

    References: Merity et al. 2018, "Regularizing and optimizing LSTM language models", for windows
    of random length. There the learning rate is scaled; here what is left of it after the rule of
    the optimizer, which is the same for those of `OPTIMIZERS` that multiply by it last.
    """
    inner = optax.with_extra_args_support(inner)

    def update(updates, state, params: Any = None, **extra):
        updates, state = inner.update(updates, state, params, **extra)
        return jax.tree.map(lambda leaf: leaf * (extra["weight"] / full_weight), updates), state

    return optax.GradientTransformationExtraArgs(inner.init, update)


def learning_rate_of(opt_state: optax.OptState) -> jax.Array | None:
    """The learning rate of the last update, of an optimizer under `optax.inject_hyperparams`."""
    if isinstance(opt_state, AveragedState):
        opt_state = opt_state.inner
    return getattr(opt_state, "hyperparams", {}).get("learning_rate")


_OURS = ("learning_rate", "weight_decay", "mask", "weight_decay_mask")
"""Arguments of optax that have a flag, or follow from one."""


def _expect(what: str, name: str, known: Iterable[str]) -> None:
    if name not in known:
        raise ValueError(f"{what}: expected one of {', '.join(known)}, got {name!r}.")


def _matrices(params):
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)
