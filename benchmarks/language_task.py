"""The task that language models are compared on: predicting the next token."""

from collections.abc import Mapping

import numpy as np

from rnnlab.data import Streams
from rnnlab.models import LanguageModel
from rnnlab.training import Ratio, Task
from rnnlab.training.optimizers import make_optimizer, make_schedule


def build_task(
    model: LanguageModel,
    tokens: Mapping[str, np.ndarray],
    batch: int,
    window: int,
    steps: int,
    rate: float,
) -> Task:
    """AdamW under a cosine with warm-up, the carry going on from window to window.

    Args:
      model: what predicts.
      tokens: "train" and "valid" -> tokens.
      batch: rows of a batch.
      window: steps of a window.
      steps: updates over which the learning rate falls.
      rate: the highest learning rate.
    """

    def loss(params, carry, window, key):
        carry, losses, _ = model.losses(
            params, window.inputs.T, window.targets.T, carry, start=window.start, key=key
        )
        return Ratio.mean(losses, window.weights.T), (carry, {})

    train, valid = (Streams(tokens[split], batch, window) for split in ("train", "valid"))
    schedule = make_schedule("cosine", rate, steps // 10, steps)
    return Task(
        init=model.init,
        loss=loss,
        optimizer=make_optimizer("adamw", schedule, clip_norm=1.0),
        train_batches=train.windows,
        eval_batches={"valid": valid.epoch},
        initial_state=model.initial_carry,
        unit="tok",
    )
