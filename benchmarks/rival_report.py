"""Tables and a picture from the rows of `benchmarks.rivals`."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks import markdown
from rnnlab.plot import new_figure

Row = Mapping[str, Any]
COLUMNS = (
    *("model", "parameters", "valid loss, nats", "bits per character", "learning rate"),
    *("training, s", "tokens per second", "memory of an update, MiB"),
)


def describe(row: Row) -> str:
    """A line about a model."""
    return (
        f"{row['model']}: {row['parameters']:,} parameters, loss {row['loss']:.4f} in"
        f" {row['seconds']:.0f} s, {row['tokens_per_second']:,.0f} tokens per second"
    )


def tables(rows: Sequence[Row]) -> str:
    """Markdown: training, best loss first; generation, a column for each context."""
    rows = sorted(rows, key=lambda row: row["loss"])
    training: list[Sequence[Any]] = [COLUMNS]
    for row in rows:
        quality = [f"{row['loss']:.3f}", f"{row['bits_per_character']:.3f}", f"{row['rate']:g}"]
        speed = [f"{row['seconds']:.0f}", f"{row['tokens_per_second']:,.0f}"]
        memory = f"{row['update_bytes'] / 2**20:.0f}"
        training.append([row["model"], f"{row['parameters']:,}", *quality, *speed, memory])
    generation = [["ms per token", *(f"{c} read" for c in rows[0]["token_milliseconds"])]]
    for row in rows:
        times = [f"{ms:.3f}" for ms in row["token_milliseconds"].values()]
        generation.append([row["model"], *times])
    return f"{markdown.table(training)}\n\n{markdown.table(generation)}"


def draw(rows: Sequence[Row], path: str | os.PathLike) -> None:
    """The loss against the seconds of training, the time for a token against the context."""
    figure = new_figure(11, 4.5)
    course, generation = figure.subplots(1, 2)
    for row in rows:
        style = {"label": row["model"], "marker": "o", "ms": 3, "lw": 1.3}
        course.plot(*zip(*row["course"], strict=True), **style)
        times = row["token_milliseconds"]
        generation.plot([int(context) for context in times], list(times.values()), **style)
    course.set(xlabel="seconds of training", ylabel="held-out loss, nats", xscale="log")
    contexts = [int(context) for context in rows[0]["token_milliseconds"]]
    generation.set(xlabel="characters read", ylabel="ms per token", xscale="log", yscale="log")
    generation.set_xticks(contexts, map(str, contexts), minor=False)
    generation.set_xticks([], minor=True)
    for panel in (course, generation):
        panel.grid(alpha=0.3, which="both")
        panel.spines[["top", "right"]].set_visible(False)
        panel.yaxis.set_major_formatter("{x:g}")
        panel.yaxis.set_minor_formatter("{x:g}")
    course.legend(frameon=False)
    figure.savefig(path, dpi=120)
