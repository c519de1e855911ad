"""What a probabilistic forecaster says of one value: a distribution, made of raw numbers."""

import abc
import dataclasses
from collections.abc import Callable
from itertools import pairwise
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import betainc, gammaln, ndtri, xlogy

from rnnlab.core.types import Array, Key

LEAST = 1e-3
"""The least deviation, in units of the scale."""


@dataclasses.dataclass(frozen=True)
class Distribution(abc.ABC):
    """A family of distributions of one number.

    `bind` turns P raw numbers into the parameters of the family, inside their domain and in the
    units of the series; every other method takes what it returned. Parameters, values and results
    have one shape `[...]`.
    """

    counts: ClassVar[bool] = False  # whether values are whole numbers from 0 on

    @property
    @abc.abstractmethod
    def size(self) -> int:
        """P, raw numbers for one value."""

    @abc.abstractmethod
    def bind(self, raw: Array, loc: Array, scale: Array) -> Any:
        """Parameters from raw numbers.

        Args:
          raw: `[..., P]`, any numbers.
          loc: broadcasts to `[...]`: what a value of 0 is on the scale of the series.
          scale: likewise: what 1 is beyond that; more than 0.
        """

    @abc.abstractmethod
    def log_prob(self, params: Any, values: Array) -> Array:
        """The logarithm of density or probability."""

    @abc.abstractmethod
    def mean(self, params: Any) -> Array:
        """The mean."""

    @abc.abstractmethod
    def sample(self, key: Key, params: Any) -> Array:
        """One value each; consumes `key`."""

    @abc.abstractmethod
    def quantile(self, params: Any, levels: Array) -> Array:
        """The least value whose cumulative probability is at least that of `levels` `[...]`."""

    def losses(self, params: Any, values: Array) -> Array:
        """What training minimises."""
        return -self.log_prob(params, values)


class GaussianParams(NamedTuple):
    mean: Array
    deviation: Array


@dataclasses.dataclass(frozen=True)
class Gaussian(Distribution):
    """A normal distribution.

    Example:
        >>> import jax.numpy as jnp
        >>> params = Gaussian().bind(jnp.zeros(2), jnp.array(5.0), jnp.array(10.0))
        >>> round(float(params.mean), 2), round(float(params.deviation), 2)
        (5.0, 6.94)
    """

    @property
    def size(self) -> int:
        return 2

    def bind(self, raw: Array, loc: Array, scale: Array) -> GaussianParams:
        return GaussianParams(loc + scale * raw[..., 0], scale * _positive(raw[..., 1]))

    def log_prob(self, params: GaussianParams, values: Array) -> Array:
        distance = (values - params.mean) / params.deviation
        return -0.5 * jnp.square(distance) - jnp.log(params.deviation) - 0.5 * jnp.log(2 * jnp.pi)

    def mean(self, params: GaussianParams) -> Array:
        return params.mean

    def sample(self, key: Key, params: GaussianParams) -> Array:
        noise = jax.random.normal(key, params.mean.shape, params.mean.dtype)
        return params.mean + params.deviation * noise

    def quantile(self, params: GaussianParams, levels: Array) -> Array:
        return params.mean + params.deviation * ndtri(levels)


class StudentTParams(NamedTuple):
    freedom: Array
    loc: Array
    scale: Array


@dataclasses.dataclass(frozen=True)
class StudentT(Distribution):
    """Student's t distribution, of more than two degrees of freedom, so that it has a variance."""

    @property
    def size(self) -> int:
        return 3

    def bind(self, raw: Array, loc: Array, scale: Array) -> StudentTParams:
        freedom = 2 + _positive(raw[..., 2])
        return StudentTParams(freedom, loc + scale * raw[..., 0], scale * _positive(raw[..., 1]))

    def log_prob(self, params: StudentTParams, values: Array) -> Array:
        freedom, loc, scale = params
        distance = (values - loc) / scale
        normaliser = gammaln((freedom + 1) / 2) - gammaln(freedom / 2)
        normaliser = normaliser - 0.5 * jnp.log(freedom * jnp.pi) - jnp.log(scale)
        return normaliser - (freedom + 1) / 2 * jnp.log1p(jnp.square(distance) / freedom)

    def mean(self, params: StudentTParams) -> Array:
        return params.loc

    def sample(self, key: Key, params: StudentTParams) -> Array:
        noise = jax.random.t(key, params.freedom, params.loc.shape, params.loc.dtype)
        return params.loc + params.scale * noise

    def quantile(self, params: StudentTParams, levels: Array) -> Array:
        freedom = params.freedom
        tail = jnp.minimum(levels, 1 - levels)

        def beyond(t: Array) -> Array:  # the probability of less than -t, t >= 0
            return 0.5 * betainc(freedom / 2, 0.5, freedom / (freedom + jnp.square(t)))

        # At two degrees of freedom, the heaviest tail, t is less than 1 / sqrt(2 tail).
        low, high = jnp.zeros_like(params.loc), 1 + 1 / jnp.sqrt(2 * tail)
        size = _bisect(lambda t: beyond(t) <= tail, low, high * jnp.ones_like(low))[1]
        return params.loc + params.scale * jnp.where(levels < 0.5, -size, size)


class NegativeBinomialParams(NamedTuple):
    mean: Array
    shape: Array  # alpha: the variance is mean + alpha mean^2


@dataclasses.dataclass(frozen=True)
class NegativeBinomial(Distribution):
    """A negative binomial distribution of mean m and shape alpha, for counts.

        p(z) = G(z + 1/a) / (G(z + 1) G(1/a)) (1 / (1 + a m))^(1/a) (a m / (1 + a m))^z

    The raw mean is multiplied by the scale and the raw shape divided by its root; counts have no
    other place than 0 to start from, so `loc` has to be 0.

    References: Salinas et al. 2020, "DeepAR: probabilistic forecasting with autoregressive
    recurrent networks", equation 3 and section 3.3.
    """

    counts: ClassVar[bool] = True

    @property
    def size(self) -> int:
        return 2

    def bind(self, raw: Array, loc: Array, scale: Array) -> NegativeBinomialParams:
        mean = scale * _positive(raw[..., 0])
        return NegativeBinomialParams(mean, _positive(raw[..., 1]) / jnp.sqrt(scale))

    def log_prob(self, params: NegativeBinomialParams, values: Array) -> Array:
        mean, shape = params
        number, product = 1 / shape, shape * mean
        coefficient = gammaln(values + number) - gammaln(values + 1) - gammaln(number)
        logarithm = jnp.log1p(product)
        return coefficient - number * logarithm + xlogy(values, product) - values * logarithm

    def mean(self, params: NegativeBinomialParams) -> Array:
        return params.mean

    def sample(self, key: Key, params: NegativeBinomialParams) -> Array:
        gamma_key, poisson_key = jax.random.split(key)
        rate = jax.random.gamma(gamma_key, 1 / params.shape) * params.shape * params.mean
        return jax.random.poisson(poisson_key, rate).astype(params.mean.dtype)

    def quantile(self, params: NegativeBinomialParams, levels: Array) -> Array:
        mean, shape = params

        def reached(value: Array) -> Array:
            return betainc(1 / shape, jnp.floor(value) + 1, 1 / (1 + shape * mean)) >= levels

        # Cantelli: no more than 1 - level lies sqrt(level / (1 - level)) deviations above the mean.
        deviation = jnp.sqrt(mean + shape * jnp.square(mean))
        high = mean + deviation * jnp.sqrt(levels / (1 - levels)) + 1
        low, high = _bisect(reached, jnp.zeros_like(high), high)
        return jnp.where(reached(low), jnp.floor(low), jnp.floor(high))


@dataclasses.dataclass(frozen=True)
class Quantiles(Distribution):
    """Quantiles at fixed levels, with a straight line from each to the next and nothing beyond.

    The lowest is free and every other one lies above the one below, so they never cross. Training
    minimises twice the mean pinball loss, which is the CRPS but for the levels between.

    Attributes:
      levels: rising, inside 0 to 1.

    Raises:
      ValueError: fewer than two levels, or levels that do not rise inside 0 to 1.

    References: Koenker & Bassett 1978, "Regression quantiles"; Wen et al. 2017, "A multi-horizon
    quantile recurrent forecaster".
    """

    levels: tuple[float, ...] = (
        0.025,
        0.05,
        0.1,
        0.2,
        0.3,
        0.4,
        0.5,
        0.6,
        0.7,
        0.8,
        0.9,
        0.95,
        0.975,
    )

    def __post_init__(self):
        ends = (0.0, *self.levels, 1.0)
        if len(self.levels) < 2 or any(a >= b for a, b in pairwise(ends)):
            raise ValueError(
                "Quantiles: expected two levels or more that rise inside 0 to 1, got"
                f" {self.levels}."
            )

    @property
    def size(self) -> int:
        return len(self.levels)

    def bind(self, raw: Array, loc: Array, scale: Array) -> Array:
        """The quantiles themselves, `[..., Q]`."""
        # Gaps start at 1 / Q each, so that all of them together are about one unit of the scale.
        gaps = _positive(raw[..., 1:]) / self.size
        steps = jnp.concatenate([raw[..., :1], gaps], axis=-1)
        return loc[..., None] + scale[..., None] * (jnp.cumsum(steps, axis=-1) - 0.5)

    def log_prob(self, params: Array, values: Array) -> Array:
        """Of the density that is constant between two quantiles; -infinity beyond them."""
        share = jnp.diff(self._levels(params)) / jnp.diff(params)
        place = jnp.sum(params <= values[..., None], axis=-1) - 1
        inside = (place >= 0) & (place < self.size - 1)
        place = jnp.clip(place, 0, self.size - 2)
        density = jnp.take_along_axis(share, place[..., None], axis=-1)[..., 0]
        return jnp.where(inside, jnp.log(density), -jnp.inf)

    def mean(self, params: Array) -> Array:
        middles = (params[..., 1:] + params[..., :-1]) / 2
        levels = self._levels(params)
        between = jnp.sum(jnp.diff(levels) * middles, axis=-1)
        return between + levels[0] * params[..., 0] + (1 - levels[-1]) * params[..., -1]

    def sample(self, key: Key, params: Array) -> Array:
        return self.quantile(params, jax.random.uniform(key, params.shape[:-1], params.dtype))

    def quantile(self, params: Array, levels: Array) -> Array:
        known, levels = self._levels(params), jnp.broadcast_to(levels, params.shape[:-1])
        place = jnp.clip(jnp.searchsorted(known, levels, side="right") - 1, 0, self.size - 2)
        low, high = (
            jnp.take_along_axis(params, at[..., None], axis=-1)[..., 0] for at in (place, place + 1)
        )
        share = (levels - known[place]) / (known[place + 1] - known[place])
        return low + (high - low) * jnp.clip(share, 0, 1)

    def losses(self, params: Array, values: Array) -> Array:
        return 2 * jnp.mean(pinball(values[..., None] - params, self._levels(params)), axis=-1)

    def _levels(self, params: Array) -> Array:
        return jnp.asarray(self.levels, params.dtype)


def pinball(errors: Array, levels: Array | float) -> Array:
    """What a quantile costs that is `errors` below the truth: max(q e, (q - 1) e)."""
    return jnp.maximum(levels * errors, (levels - 1) * errors)


DISTRIBUTIONS: dict[str, Callable[[], Distribution]] = {
    "gaussian": Gaussian,
    "student_t": StudentT,
    "negative_binomial": NegativeBinomial,
    "quantiles": Quantiles,
}
"""A distribution by the name that `--distribution` takes."""


def _positive(raw: Array) -> Array:
    return jax.nn.softplus(raw) + LEAST


def _bisect(
    reached: Callable[[Array], Array], low: Array, high: Array, halvings: int = 40
) -> tuple[Array, Array]:
    """Bounds around the least value that is `reached`, elementwise; `high` has to be."""

    def halve(bounds: tuple[Array, Array], _: None):
        low, high = bounds
        middle = (low + high) / 2
        there = reached(middle)
        return (jnp.where(there, low, middle), jnp.where(there, middle, high)), None

    return jax.lax.scan(halve, (low, high), length=halvings)[0]
