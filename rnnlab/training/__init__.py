"""Training: a `Task` says what is learned, `fit` learns it."""

from rnnlab.training.allocation import keep_freed_memory
from rnnlab.training.config import FitConfig, FitResult
from rnnlab.training.dynamic import mean_squares, score_dynamically
from rnnlab.training.fit import fit, load_best, score_best
from rnnlab.training.task import Evaluation, Ratio, Task

__all__ = [
    "Evaluation",
    "FitConfig",
    "FitResult",
    "Ratio",
    "Task",
    "fit",
    "keep_freed_memory",
    "load_best",
    "mean_squares",
    "score_best",
    "score_dynamically",
]
