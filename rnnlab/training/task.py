"""What an experiment hands to `fit`."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

PyTree = Any


class Ratio(NamedTuple):
    """A mean that can still be added up: totals and weights are summed, and divided once.

    Means of batches of different weights then come out right, whatever the batch size.
    """

    total: Any  # []
    weight: Any  # []

    @classmethod
    def mean(cls, values: jax.Array, weights: jax.Array) -> "Ratio":
        """The mean of `values` under `weights` of the same shape."""
        return cls(jnp.sum(values * weights), jnp.sum(weights))

    @property
    def value(self) -> Any:
        return self.total / self.weight


Metrics = Mapping[str, Ratio]


@dataclasses.dataclass(frozen=True)
class Task:
    """Everything one experiment decides; `fit` decides nothing else.

    A batch is a tree of arrays whose first axis is the batch. So is a state: what one batch hands
    to the next, the carry of truncated backpropagation through time; a stateless task has `()`.

    Attributes:
      init: `key -> params`.
      loss: `(params, state, batch, key) -> (loss, (state, metrics))` with a `Ratio` for the loss
        and for every metric; key is None in evaluation, where nothing is random.
      optimizer: optax's. A learning rate under `optax.inject_hyperparams` is logged.
      train_batches: `first_step -> iterator`, without end. A restart resumes the stream by its
        integer step, so the batch must depend on the step alone.
      eval_batches: name -> function that gives the batches of one pass. "valid" steers early
        stopping and the choice of the checkpoint; "test" runs once, on the chosen one.
      initial_state: `(params, batch_size) -> state`.
      select: the metric of "valid" that chooses, and "min" or "max".
      assets: file name -> content, saved with the run (a vocabulary) and compared on resume.
      derive: averaged metrics of an evaluation -> those and others that follow from them (a
        perplexity is the exponential of a mean, so it is no mean itself).
      unit: what the weight of the loss counts, for the log: "tok" for tokens.
    """

    init: Callable[[jax.Array], PyTree]
    loss: Callable[[PyTree, PyTree, PyTree, Any], tuple[Ratio, tuple[PyTree, Metrics]]]
    optimizer: optax.GradientTransformation
    train_batches: Callable[[int], Any]
    eval_batches: Mapping[str, Callable[[], Any]]
    initial_state: Callable[[PyTree, int], PyTree] = lambda params, batch_size: ()
    select: tuple[str, str] = ("loss", "min")
    assets: Mapping[str, str] = dataclasses.field(default_factory=dict)
    derive: Callable[[dict[str, float]], dict[str, float]] = lambda metrics: metrics
    unit: str = "ex"

    def __post_init__(self):
        if self.select[1] not in ("min", "max"):
            raise ValueError(f'select: expected (metric, "min" or "max"), got {self.select}.')


class Mean:
    """Sums of ratios, in float64 on the host.

    Adding keeps the arrays where they are, so that a training loop is not held up; they are
    fetched, always in the order in which they came, when somebody asks.
    """

    def __init__(self, sums: Mapping[str, tuple[float, float]] | None = None):
        self._sums = {name: np.array(pair, np.float64) for name, pair in (sums or {}).items()}
        self._pending: list[Metrics] = []

    def add(self, metrics: Metrics) -> None:
        """Counts one batch."""
        self._pending.append(metrics)

    def sums(self) -> dict[str, tuple[float, float]]:
        """Name -> (total, weight) so far; JSON keeps them to the bit."""
        for metrics in jax.device_get(self._pending):
            for name, ratio in metrics.items():
                pair = np.array(ratio, np.float64)
                self._sums[name] = self._sums[name] + pair if name in self._sums else pair
        self._pending = []
        return {name: (float(total), float(weight)) for name, (total, weight) in self._sums.items()}

    def values(self) -> dict[str, float]:
        """Name -> total / weight."""
        return {name: total / weight for name, (total, weight) in self.sums().items()}
