"""What an experiment hands to `fit`."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rnnlab.names import check_file_name
from rnnlab.training.averaging import average_of
from rnnlab.training.run import RUN_FILES

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


class Evaluation(NamedTuple):
    """What `Task.evaluate` found out about one held-out set."""

    metrics: Mapping[str, Any]  # name -> number or Ratio
    artifacts: Mapping[str, Any] = {}  # file name -> text, bytes, or () -> a matplotlib figure


def kept_weights(params: PyTree, opt_state: optax.OptState) -> PyTree:
    """The averaged weights where the optimizer keeps some, else `params` themselves."""
    average = average_of(opt_state)
    return params if average is None else average


def _no_state(params: PyTree, batch_size: int) -> PyTree:
    return ()


def _as_they_are(split: str, metrics: dict[str, float]) -> dict[str, float]:
    return metrics


@dataclasses.dataclass(frozen=True)
class Task:
    """Everything one experiment decides; `fit` decides nothing else.

    A batch is a tree of arrays whose first axis is the batch. So is a state: what one batch hands
    to the next, the carry of truncated backpropagation through time; a stateless task has `()`.

    Attributes:
      init: `key -> params`.
      loss: `(params, state, batch, key) -> (loss, (state, metrics))` with a `Ratio` for the loss
        and for every metric; key is None in evaluation, where nothing is random.
      optimizer: optax's. Its `update` gets extra arguments: `value`, the loss, and `weight`, that
        of the batch; `score`, what `select` last measured on "valid", negated where more is better
        (infinity before that); `evaluations`, how often it was measured. A learning rate under
        `optax.inject_hyperparams` is logged.
      train_batches: `first_step -> iterator`, without end. A restart resumes the stream by its
        integer step, so the batch must depend on the step alone.
      eval_batches: name -> function that gives the batches of one pass. "valid" steers early
        stopping and the choice of the checkpoint; "test" runs once, on the chosen one.
      initial_state: `(params, batch_size) -> state`.
      evaluate: `(params, batches, key) -> Evaluation`, for what has to decode, sample or draw. Its
        metrics join those of the loss; its artifacts land under `RUN/eval/STEP/SET/`.
      select: the metric of "valid" that chooses, and "min" or "max".
      assets: file name -> content, saved with the run (a vocabulary) and compared on resume.
      eval_params: `(params, opt_state) -> params` that are evaluated and kept as the best: averaged
        ones where the optimizer keeps an average (`optimizers.ema`, `optimizers.nt_asgd`).
      collect: `(params, state, batch, key) -> (state, minibatches)` for several updates from one
        batch; a leaf of `minibatches` is `[N, ...]`, and `loss` gets one of the N at a time. Steps
        count updates, `train_batches` counts batches. Evaluation is then `evaluate` alone.
      derive: `(set, averaged metrics) -> those and others that follow from them`: a perplexity is
        the exponential of a mean, so it is no mean itself. The set is one of `eval_batches`, or
        "train" for a line of the log.
      unit: what the weight of the loss counts, for the log: "tok" for tokens.
      partition: `(params, count) -> tree of PartitionSpec`, for a model too large for one device:
        which parameters `count` devices share, over the mesh's axis "model". None copies them all.
    """

    init: Callable[[jax.Array], PyTree]
    loss: Callable[[PyTree, PyTree, PyTree, Any], tuple[Ratio, tuple[PyTree, Metrics]]]
    optimizer: optax.GradientTransformation
    train_batches: Callable[[int], Any]
    eval_batches: Mapping[str, Callable[[], Any]]
    initial_state: Callable[[PyTree, int], PyTree] = _no_state
    evaluate: Callable[[PyTree, Any, jax.Array], Evaluation] | None = None
    select: tuple[str, str] = ("loss", "min")
    assets: Mapping[str, str] = dataclasses.field(default_factory=dict)
    eval_params: Callable[[PyTree, optax.OptState], PyTree] = kept_weights
    collect: Callable[[PyTree, PyTree, PyTree, jax.Array], tuple[PyTree, PyTree]] | None = None
    derive: Callable[[str, dict[str, float]], dict[str, float]] = _as_they_are
    unit: str = "ex"
    partition: Callable[[PyTree, int], PyTree] | None = None

    def __post_init__(self):
        for name in self.assets:
            check_file_name("assets", name, taken=RUN_FILES)
        for name in self.eval_batches:
            check_file_name("eval_batches", name)
        if self.select[1] not in ("min", "max"):
            raise ValueError(f'select: expected (metric, "min" or "max"), got {self.select}.')
        if self.collect and self.eval_batches and not self.evaluate:
            raise ValueError(
                "evaluate: expected a function, for `loss` reads the minibatches that only"
                " `collect` makes; got None beside eval_batches."
            )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PackedMetrics:
    """Metrics in one array: one result of a program, and one transfer to the host."""

    values: jax.Array  # [M, 2], total and weight of each
    names: tuple[str, ...] = dataclasses.field(metadata={"static": True})

    @classmethod
    def of(cls, metrics: Metrics) -> "PackedMetrics":
        """Packs one metric or more."""
        dtype = jnp.result_type(float)  # of totals and weights, which bfloat16 would round
        values = [jnp.stack([jnp.asarray(x, dtype) for x in ratio]) for ratio in metrics.values()]
        return cls(jnp.stack(values), tuple(metrics))


class Mean:
    """Sums of ratios, in float64 on the host.

    Adding keeps the arrays where they are, so that a training loop is not held up; they are
    fetched, always in the order in which they came, when somebody asks.
    """

    def __init__(self, sums: Mapping[str, tuple[float, float]] | None = None):
        self._sums = {name: np.array(pair, np.float64) for name, pair in (sums or {}).items()}
        self._pending: list[PackedMetrics] = []

    def add(self, metrics: PackedMetrics) -> None:
        """Counts one batch."""
        self._pending.append(metrics)

    def sums(self) -> dict[str, tuple[float, float]]:
        """Name -> (total, weight) so far; JSON keeps them to the bit."""
        for metrics in jax.device_get(self._pending):
            for name, pair in zip(metrics.names, metrics.values.astype(np.float64), strict=True):
                self._sums[name] = self._sums[name] + pair if name in self._sums else pair
        self._pending = []
        return {name: (float(total), float(weight)) for name, (total, weight) in self._sums.items()}

    def values(self) -> dict[str, float]:
        """Name -> total / weight, of those that have a weight."""
        return {name: total / weight for name, (total, weight) in self.sums().items() if weight}
