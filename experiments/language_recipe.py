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
from rnnlab.models import (
    TCN,
    AdaptiveSoftmax,
    LanguageModel,
    Regularisation,
    Softmax,
    Transformer,
    WindowMLP,
)
from rnnlab.models.body import Body
from rnnlab.models.sizes import (
    connected,
    count_params,
    largest_features,
    largest_transformer,
)
from rnnlab.strategies import STRATEGIES
from rnnlab.training import Task, mean_squares, score_dynamically

MODELS = ("recurrent", "mlp", "tcn", "transformer")
RECURRENT = ("cell", "cell_options", "strategy", "output_features", "residual", "weight_drop")
"""Flags of a recurrent model alone."""


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
    text = "What stands between embedding and output: layers of --cell, or one without recurrence."
    flags.DEFINE_enum("model", "recurrent", MODELS, text, flag_values=values)
    integer("context", 64, "Tokens an mlp sees; tokens a block of a transformer attends to.", 1)
    integer("heads", 4, "Of a transformer.", 1)
    integer("kernel_width", 3, "Of a tcn, whose dilation doubles from block to block.", 1)
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
    text = "Of dynamic evaluation; best chosen on valid."
    number("dynamic_learning_rate", 2e-3, text, 0.0, flag_values=values)
    text = "Share of what was learned that a segment forgets."
    number("dynamic_decay", 0.02, text, 0.0, 1.0, flag_values=values)
    text = "Steps per segment; the text is one stream."
    flags.DEFINE_integer("dynamic_length", 20, text, 1, flag_values=values)


def check_dynamic_flags(values: flags.FlagValues) -> None:
    """Ends the program where a flag of dynamic evaluation has nothing to act on."""
    switch, *numbers = DYNAMIC
    if values.dynamic_evaluation and values.mode != "eval":
        sys.exit(f"error: --{switch} goes with --mode=eval, got --mode={values.mode}.")
    if values.dynamic_evaluation and values.by_position:
        sys.exit(f"error: --by_position: expected no --{switch} beside it, got both.")
    for name in numbers:
        if values[name].present and not values.dynamic_evaluation:
            sys.exit(f"error: --{name}: expected --{switch} beside it.")


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
        if values.model != "recurrent":
            return with_layers(body=build_body(values, features))
        strategy = STRATEGIES[values.strategy]()
        return with_layers(cells=build_cells(values, features), strategy=strategy)

    def with_layers(**layers):
        return LanguageModel(
            vocabulary_size=vocabulary_size,
            embedding_features=values.embedding_features,
            tied=values.tied,
            softmax=build_softmax(values),
            regularisation=build_regularisation(values),
            **layers,
        )

    check_flags(values)
    if not values.num_params:
        return model_of(values.features)
    if values.model == "transformer":

        def count_with(body):
            return count_params(with_layers(body=body).init)

        smallest = build_transformer(values, 2 * values.heads)
        return with_layers(body=largest_transformer(count_with, values.num_params, smallest))

    def count(features):
        return count_params(model_of(features).init)

    return model_of(largest_features(count, values.num_params))


def check_flags(values: flags.FlagValues) -> None:
    """Ends the program where a flag has nothing to act on, or nothing is left to solve for.

    A flag at its default is no demand: `flags.txt` of a run has them all.
    """
    model = values.model
    needs = (
        (RECURRENT, model == "recurrent", "--model=recurrent"),
        (("context",), model in ("mlp", "transformer"), "--model=mlp or transformer"),
        (("heads",), model == "transformer", "--model=transformer"),
        (("kernel_width",), model == "tcn", "--model=tcn"),
        (("output_features",), values.layers > 1, "--layers=2 or more"),
    )
    for names, acts, expected in needs:
        for name in names:
            if not acts and values[name].value != values[name].default:
                sys.exit(f"error: --{name}: expected {expected} beside it.")
    if values.num_params:
        _check_solvable(values)


def _check_solvable(values: flags.FlagValues) -> None:
    """Ends the program where `--num_params` cannot choose the features of the layers."""
    if values.tied and values.model != "recurrent":
        sys.exit(
            f"error: --num_params: expected no --tied beside --model={values.model}, whose features"
            " are those of the embedding then."
        )
    if values.tied and not values.output_features:
        sys.exit(
            "error: --num_params: expected --output_features, of the size of the embedding, beside"
            " --tied, got none."
        )
    solved = values.layers - bool(values.output_features)
    if values.residual and solved < 2:
        least = values.layers + 2 - solved
        sys.exit(
            f"error: --num_params: expected --layers={least} or more beside --residual, so that two"
            f" layers that follow each other have the features it chooses, got {values.layers}."
        )


def build_body(values: flags.FlagValues, features: int) -> Body:
    """The layers of a model without recurrence."""
    if values.model == "mlp":
        return WindowMLP(features, values.context, values.layers)
    if values.model == "tcn":
        return TCN(features, values.layers, values.kernel_width)
    return build_transformer(values, features)


def build_transformer(values: flags.FlagValues, features: int) -> Transformer:
    """The Transformer of the flags."""
    return Transformer(features, values.layers, values.heads, values.context)


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
