r"""Trains with many values of some flags, each in a process of its own, and compares the scores.

    rnnlab sweep --workdir=runs/sweep --over learning_rate=1e-3,3e-3 --over features=64,128 \
        -- experiments.language_model --steps=200

After -- come a module and the flags that all trials share. The values of a flag are a list, or a
range LOW..HIGH, LOW..HIGH:log, of whole numbers where both ends are. The same command again skips
the trials that have ended and resumes the others; --over and --trials may then ask for more.
"""

import argparse
import json
import pathlib
import signal
import sys
from types import FrameType

from rnnlab import plot
from rnnlab.cli import files
from rnnlab.cli.space import METHODS, Budget, Choices, Space, parse_space
from rnnlab.cli.tables import print_table, text
from rnnlab.cli.trials import Runner, Trial


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.usage = "rnnlab sweep --over NAME=VALUES [...] -- MODULE [FLAGS]"
    parser.add_argument("--workdir", metavar="DIR", default="runs/sweep", help="of all trials")
    parser.add_argument("--over", metavar="NAME=VALUES", action="append", required=True)
    parser.add_argument(
        "--method", choices=METHODS, help="default: grid for lists, random where there is a range"
    )
    parser.add_argument("--trials", metavar="N", type=positive, help="at most so many")
    parser.add_argument("--seed", type=int, default=0, help="of random and optuna; default: 0")
    parser.add_argument("--jobs", metavar="N", type=positive, default=1, help="trials at a time")
    parser.add_argument("--metric", metavar="SET.NAME", default="valid.loss", help="the score")
    parser.add_argument("--mode", choices=("min", "max"), default="min", help="which is best")


def positive(given: str) -> int:
    """A whole number above 0."""
    if not given.isdecimal() or int(given) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {given!r}")
    return int(given)


def run(arguments: argparse.Namespace) -> int:
    """Runs the trials, then prints the table and draws the picture."""
    space = parse_space(arguments.over)
    command = check_command(arguments.trailing, space)
    lists = all(isinstance(values, Choices) for values in space.values())
    search = METHODS[arguments.method or ("grid" if lists else "random")]
    budget = Budget(arguments.trials, arguments.seed, arguments.jobs, arguments.mode)
    workdir = pathlib.Path(arguments.workdir)
    trials: list[Trial] = []

    def note(trial: Trial) -> None:
        trials.append(trial)
        lines = "".join(json.dumps(ended.record()) + "\n" for ended in trials)
        files.write(workdir / "sweep.jsonl", lines.encode())
        print(f"{trial.path.name}: {outcome(trial, arguments.metric)}", flush=True)

    def evaluate(batch):
        remember(workdir, command)  # here, for by now the method has accepted the space
        return runner.evaluate(batch)

    runner = Runner(workdir, command, arguments.metric, arguments.jobs, note)
    before = signal.signal(signal.SIGTERM, _interrupt)
    interrupted = False
    try:
        search(space, budget, evaluate)
    except KeyboardInterrupt:
        interrupted = True
        print("interrupted: the same command goes on with the rest", file=sys.stderr)
    finally:
        signal.signal(signal.SIGTERM, before)
    report(trials, space, arguments, workdir)
    return 130 if interrupted else int(any(trial.problem for trial in trials))


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def check_command(command: list[str], space: Space) -> list[str]:
    """The module and its flags, without what the sweep itself decides."""
    if not command or command[0].startswith("-"):
        raise ValueError(
            "expected a module and its flags after --, such as -- experiments.language_model"
            f" --steps=200, got {' '.join(command) or 'nothing'}."
        )
    for flag in command[1:]:
        name = flag.lstrip("-").split("=", 1)[0]
        if name in space or name == "workdir":
            raise ValueError(f"expected flags that the sweep does not set itself, got {flag}.")
    return command


def remember(workdir: pathlib.Path, command: list[str]) -> None:
    """Writes `sweep.json`, what all trials share; refuses a directory of another sweep."""
    path = workdir / "sweep.json"
    if not path.exists():
        workdir.mkdir(parents=True, exist_ok=True)
        files.write(path, json.dumps({"command": command}, indent=1).encode())
        return
    there = files.lookup(json.loads(path.read_bytes()), "command")
    if there != command:
        before = " ".join(map(str, there)) if isinstance(there, list) else "something else"
        raise ValueError(
            f"{workdir}: expected the sweep that is there, of {before}, got one of"
            f" {' '.join(command)}. Name another --workdir."
        )


def outcome(trial: Trial, metric: str) -> str:
    """The score of a trial, or why it has none."""
    return text(trial.problem) if trial.score is None else f"{metric} {trial.score:.4g}"


def report(
    trials: list[Trial], space: Space, arguments: argparse.Namespace, workdir: pathlib.Path
) -> None:
    """The table, best first, and the picture."""
    scored = [(trial, trial.score) for trial in trials if trial.score is not None]
    scored.sort(key=lambda pair: pair[1], reverse=arguments.mode == "max")
    failed = [trial for trial in trials if trial.score is None]
    rows = [
        [*(trial.values[name] for name in space), trial.score, *([trial.problem] if failed else [])]
        for trial in [*(trial for trial, _ in scored), *failed]
    ]
    if rows:
        print_table([*space, arguments.metric, *(["problem"] if failed else [])], rows)
    if not scored:
        return
    print(f"best: {arguments.metric} {scored[0][1]:.4g} in {scored[0][0].path}")
    try:
        points = [(trial.values, score) for trial, score in scored]
        picture = workdir / "sweep.png"
        plot.search(points, picture, metric=arguments.metric, mode=arguments.mode)
        print(f"wrote {picture}")
    except ImportError as error:  # a sweep is worth its table without a picture too
        print(f"warning: no sweep.png, for {error}", file=sys.stderr)
