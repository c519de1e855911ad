"""The flags that say what a language model is and how it is regularised, and the model of them."""

import itertools
import re
import sys

import numpy as np
import optax
from absl import flags

from experiments import common
from rnnlab.core.cell import Cell
from rnnlab.core.types import PyTree
from rnnlab.data import RandomStreams, Streams
from rnnlab.models import AdaptiveSoftmax, LanguageModel, Regularisation, Softmax
from rnnlab.models.sizes import connected, count_params, largest_features
from rnnlab.strategies import STRATEGIES
from rnnlab.training import Task, mean_squares, score_dynamically


def define_flags(values: flags.FlagValues) -> None:
    """Adds them to those of the experiment."""

    def rate(name, text, default: float | None = 0.0):
        flags.DEFINE_float(name, default, text, 0.0, 0.99, flag_values=values)

    def penalty(name, text):
        flags.DEFINE_float(name, 0.0, text, 0.0, flag_values=values)

    def integer(name, default, text, low):
        flags.DEFINE_integer(name, default, text, low, flag_values=values)

    def boolean(name, text):
        flags.DEFINE_bool(name, False, text, flag_values=values)

    text = "Of random window lengths around --seq_length, as --learning_rate then is; 0: all equal."
    flags.DEFINE_float("length_deviation", 0.0, text, 0.0, flag_values=values)
    integer("embedding_features", 64, "Features of the embedding.", 1)
    integer("output_features", 0, "Features of the last layer; 0: as many as the others.", 0)
    integer("num_params", 0, "Most parameters; solves for --features. 0: takes --features.", 0)
    boolean("tied", "Whether the output kernel is the transposed embedding.")
    boolean("residual", "Skips around every layer that puts out as many features as it reads.")
    integer("softmax_chunk", 0, "Rows whose logits exist at a time; 0: all, of clusters 128.", 0)
    text = "First words of the clusters of an adaptive softmax, from frequent to rare; empty: none."
    flags.DEFINE_string("cutoffs", "", text, flag_values=values)
    flags.register_validator("cutoffs", _is_list, "expected whole numbers with commas", values)
    rate("dropout", "Rate on the embedding, between layers, on the output.")
    rate("input_dropout", "Rate on the embedding; default: --dropout.", None)
    rate("layer_dropout", "Rate between layers; default: --dropout.", None)
    rate("output_dropout", "Rate on the output; default: --dropout.", None)
    rate("embedding_dropout", "Rate at which a word is dropped, wherever it stands in the window.")
    rate("weight_drop", "Rate on the recurrent kernels, one mask a window.")
    boolean("variational", "Whether dropout has one mask for all steps of a window.")
    penalty("activation_penalty", "AR: times the mean square of the dropped outputs.")
    penalty("temporal_penalty", "TAR: times the mean square of the change of the outputs.")


DYNAMIC = (
    "dynamic_evaluation",
    "dynamic_learning_rate",
    "dynamic_decay",
    "dynamic_rms",
    "dynamic_length",
)
"""Flags of dynamic evaluation, which are not part of what a run is."""
SQUARED_WINDOWS = 200
"""Windows of the training text that the mean squares of dynamic evaluation are taken over."""


def define_dynamic_flags(values: flags.FlagValues) -> None:
    """Adds those of dynamic evaluation."""
    boolean, number = flags.DEFINE_bool, flags.DEFINE_float
    text = "Whether mode eval learns from each segment once it is scored."
    boolean("dynamic_evaluation", False, text, flag_values=values)
    text = "Divides by the root mean square of gradients of the training text."
    boolean("dynamic_rms", True, text, flag_values=values)
    number("dynamic_learning_rate", 2e-3, "Of dynamic evaluation.", 0.0, flag_values=values)
    text = "Share of what was learned that a segment forgets."
    number("dynamic_decay", 0.02, text, 0.0, 1.0, flag_values=values)
    text = "Steps per segment; the text is one stream."
    flags.DEFINE_integer("dynamic_length", 20, text, 1, flag_values=values)


def build_streams(values: flags.FlagValues, tokens: np.ndarray) -> Streams | RandomStreams:
    """The training text as windows, of equal or of random length."""
    shape = values.batch_size, values.seq_length
    if not values.length_deviation:
        return Streams(tokens, *shape, values.stateful)
    return RandomStreams(tokens, *shape, values.length_deviation, values.seed, values.stateful)


def build_optimizer(values: flags.FlagValues) -> optax.GradientTransformation:
    """That of the flags; where windows are of random length, updates are in proportion to it."""
    full_weight = values.batch_size * values.seq_length if values.length_deviation else 0.0
    return common.build_optimizer(values, full_weight)


def evaluate_dynamically(
    values: flags.FlagValues, task: Task, params: PyTree
) -> dict[str, dict[str, float]]:
    """Set -> scores of dynamic evaluation, each from the same parameters on."""
    squares = None
    if values.dynamic_rms:
        windows = itertools.islice(task.train_batches(0), SQUARED_WINDOWS)
        squares = mean_squares(task, params, windows, values.dtype)
    options = {
        "learning_rate": values.dynamic_learning_rate,
        "decay": values.dynamic_decay,
        "squares": squares,
        "dtype": values.dtype,
    }
    return {
        name: task.derive(name, score_dynamically(task, params, batches(), **options))
        for name, batches in task.eval_batches.items()
    }


def _is_list(text: str) -> bool:
    return re.fullmatch(r"(\d+(,\d+)*)?", text) is not None


def build_model(values: flags.FlagValues, vocabulary_size: int) -> LanguageModel:
    """The model of the flags, of as many features as `--num_params` allows if that is given."""

    def model_of(features):
        return LanguageModel(
            vocabulary_size=vocabulary_size,
            embedding_features=values.embedding_features,
            cells=build_cells(values, features),
            tied=values.tied,
            softmax=build_softmax(values),
            regularisation=build_regularisation(values),
            strategy=STRATEGIES[values.strategy](),
        )

    if not values.num_params:
        return model_of(values.features)
    # What is of a given size leaves nothing to solve for.
    if values.output_features and values.layers == 1:
        sys.exit("error: --num_params: expected --layers=2 or more with --output_features, got 1.")
    if values.tied and not values.output_features:
        sys.exit(
            "error: --num_params: expected --output_features, of the size of the embedding, beside"
            " --tied, got none."
        )

    def count(features):
        return count_params(model_of(features).init)

    return model_of(largest_features(count, values.num_params))


def build_cells(values: flags.FlagValues, features: int) -> tuple[Cell, ...]:
    """The layers of the flags; the last may be of another size, and layers may have skips."""
    sizes = [features] * values.layers
    sizes[-1] = values.output_features or features
    cells = tuple(common.build_cell(values, size) for size in sizes)
    return connected(cells, values.embedding_features) if values.residual else cells


def build_softmax(values: flags.FlagValues) -> Softmax | AdaptiveSoftmax:
    """The output layer of the flags."""
    if not values.cutoffs:
        return Softmax(values.softmax_chunk)
    cutoffs = tuple(map(int, values.cutoffs.split(",")))
    chunk = {"chunk": values.softmax_chunk} if values.softmax_chunk else {}
    return AdaptiveSoftmax(cutoffs, **chunk)


def build_regularisation(values: flags.FlagValues) -> Regularisation:
    """The regularisation of the flags."""

    def rate(name) -> float:
        own = getattr(values, name)
        return values.dropout if own is None else own

    return Regularisation(
        embedding=values.embedding_dropout,
        inputs=rate("input_dropout"),
        layers=rate("layer_dropout"),
        outputs=rate("output_dropout"),
        weights=values.weight_drop,
        variational=values.variational,
        activation=values.activation_penalty,
        temporal=values.temporal_penalty,
    )
