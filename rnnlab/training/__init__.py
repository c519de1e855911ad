"""Training: a `Task` says what is learned, `fit` learns it."""

from rnnlab.training.config import FitConfig, FitResult
from rnnlab.training.fit import fit, load_best
from rnnlab.training.task import Ratio, Task

__all__ = ["FitConfig", "FitResult", "Ratio", "Task", "fit", "load_best"]
