"""What a sweep searches: the values of each flag, and the methods that choose among them."""

import dataclasses
import itertools
import math
import random
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
RANGE = re.compile(r"(?P<low>[-+.\deE]+?)\.\.(?P<high>[-+.\deE]+)(?P<log>:log)?")
ATTEMPTS = 1000  # draws before a random search takes it that there is nothing new

Values = Mapping[str, str]
Evaluate = Callable[[Sequence[Values]], Sequence[float | None]]  # None: a trial that failed


@dataclasses.dataclass(frozen=True)
class Choices:
    """The values of a flag one by one, passed on as they were written."""

    values: tuple[str, ...]

    def draw(self, share: float) -> str:
        """The value at a share of the way, from 0 up to but not including 1."""
        return self.values[int(share * len(self.values))]

    def suggest(self, trial: Any, name: str) -> str:
        """What optuna chooses."""
        return trial.suggest_categorical(name, self.values)


@dataclasses.dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included; whole ones where both were written as such."""

    low: float
    high: float
    whole: bool
    log: bool

    def draw(self, share: float) -> str:
        """The value at a share of the way, from 0 up to but not including 1."""
        # a whole number n stands for what rounds to it, so that the ends are as likely as the rest
        low, high = (self.low - 0.5, self.high + 0.5) if self.whole else (self.low, self.high)
        if self.log:
            value = math.exp(math.log(low) + share * (math.log(high) - math.log(low)))
        else:
            value = low + share * (high - low)
        return self._written(min(max(value, self.low), self.high))

    def suggest(self, trial: Any, name: str) -> str:
        """What optuna chooses."""
        if self.whole:
            return str(trial.suggest_int(name, int(self.low), int(self.high), log=self.log))
        return self._written(trial.suggest_float(name, self.low, self.high, log=self.log))

    def _written(self, value: float) -> str:
        return str(math.floor(value + 0.5)) if self.whole else f"{value:.6g}"


Space = Mapping[str, Choices | Range]


def parse_space(specifications: Sequence[str]) -> Space:
    """`["learning_rate=1e-4..1e-2:log", "features=64,128"]` as flags and their values."""
    space = {}
    for specification in specifications:
        name, separator, values = specification.partition("=")
        if not separator or not NAME.fullmatch(name) or not values:
            raise ValueError(
                f"--over: expected NAME=VALUE,VALUE,... or NAME=LOW..HIGH, got {specification!r}."
            )
        if name in space or name == "workdir":
            why = "is searched already" if name in space else "belongs to the sweep"
            raise ValueError(f"--over: expected another flag, got {name}, which {why}.")
        space[name] = _parse_range(name, values) or _parse_choices(name, values)
    return space


def _parse_range(name: str, values: str) -> Range | None:
    found = RANGE.fullmatch(values)
    if not found:
        return None
    try:
        low, high = float(found["low"]), float(found["high"])
    except ValueError:
        return None  # such as a..b, two dots in a word
    log = bool(found["log"])
    if not -math.inf < low < high < math.inf or (log and low <= 0):
        what = "0 < LOW < HIGH for a logarithmic range" if log else "LOW < HIGH"
        raise ValueError(f"--over: expected {what}, got {name}={values}.")
    whole = all(found[end].lstrip("+-").isdecimal() for end in ("low", "high"))
    return Range(low, high, whole, log)


def _parse_choices(name: str, values: str) -> Choices:
    choices = tuple(values.split(","))
    if len(set(choices)) < len(choices):
        raise ValueError(f"--over: expected distinct values, got {name}={values}.")
    return Choices(choices)


@dataclasses.dataclass(frozen=True)
class Budget:
    """How long a search goes on, and from which seed."""

    trials: int | None
    seed: int
    jobs: int
    mode: str

    def needed(self, method: str) -> int:
        """The number of trials of a method that has no end of its own."""
        if self.trials is None:
            raise ValueError(f"--trials: expected a number for --method={method}, got none.")
        return self.trials


def grid(space: Space, budget: Budget, evaluate: Evaluate) -> None:
    """Every combination, the last flag changing fastest."""
    ranges = [name for name, values in space.items() if isinstance(values, Range)]
    if ranges:
        raise ValueError(
            f"--method=grid: expected lists of values, got a range for {', '.join(ranges)}."
            f" Use --method=random with --trials."
        )
    lists = [values.values for values in space.values() if isinstance(values, Choices)]
    combinations = itertools.product(*lists)
    evaluate([dict(zip(space, values, strict=True)) for values in combinations][: budget.trials])


def random_search(space: Space, budget: Budget, evaluate: Evaluate) -> None:
    """Independent draws, none of them twice; more trials go on where fewer ended."""
    generator = random.Random(budget.seed)  # whose `random()` is the same in every Python
    wanted, drawn = budget.needed("random"), {}
    for _ in range(wanted + ATTEMPTS):
        drawn[tuple(values.draw(generator.random()) for values in space.values())] = None
        if len(drawn) == wanted:
            break
    evaluate([dict(zip(space, values, strict=True)) for values in drawn])


def optuna_search(space: Space, budget: Budget, evaluate: Evaluate) -> None:
    """Optuna's TPE, which learns from the scores: `jobs` trials at a time, told in order.

    With the same seed and the same scores it makes the same choices; so a sweep that is started
    again finds its finished trials.
    """
    try:
        import optuna  # an optional extra
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "--method=optuna needs optuna: pip install 'rnnlab[sweep]'", name=error.name
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    direction = "minimize" if budget.mode == "min" else "maximize"
    sampler = optuna.samplers.TPESampler(seed=budget.seed)
    study = optuna.create_study(sampler=sampler, direction=direction)
    left = budget.needed("optuna")
    while left > 0:
        asked = [study.ask() for _ in range(min(budget.jobs, left))]
        values = [
            {name: part.suggest(trial, name) for name, part in space.items()} for trial in asked
        ]
        for trial, score in zip(asked, evaluate(values), strict=True):
            failed = optuna.trial.TrialState.FAIL
            study.tell(trial, score, state=failed if score is None else None)
        left -= len(asked)


METHODS: Mapping[str, Callable[[Space, Budget, Evaluate], None]] = {
    "grid": grid,
    "random": random_search,
    "optuna": optuna_search,
}
"""Name -> method."""
