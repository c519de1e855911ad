"""The data sets: which there are, fetch some, verify the files that are here."""

import argparse

from rnnlab.cli.tables import print_table, text
from rnnlab.data.registry import DATASETS, find_file, get, search_path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    for name, action, summary in (
        ("list", list_datasets, "a table of the data sets, and which are on this machine"),
        ("get", get_datasets, "download what is missing of some data sets"),
        ("verify", verify_files, "check every file's digest, and read its records"),
    ):
        command = actions.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        command.add_argument("--data_dir", metavar="DIR", help="before $RNNLAB_DATA and the cache")
        command.set_defaults(action=action)
        if name == "get":
            command.add_argument("names", metavar="NAME", nargs="+", help="as 'data list' says")


def run(arguments: argparse.Namespace) -> int:
    """Does one of the three."""
    return arguments.action(arguments)


def list_datasets(arguments: argparse.Namespace) -> int:
    """Prints a line for each data set."""
    search_path(arguments.data_dir)  # refuses a directory that is not there
    rows = []
    for name, dataset in sorted(DATASETS.items()):
        paths = [find_file(dataset, file.name, arguments.data_dir) for file in dataset.files]
        folders = dict.fromkeys(str(path.parent) for path in paths if path)
        found = f"{len([path for path in paths if path])} of {len(paths)}"
        counts = [file.records for file in dataset.files if file.records is not None]
        records = sum(counts) if counts else None
        rows.append((name, dataset.title, records, found, ", ".join(folders), dataset.licence))
    print_table(("name", "title", "records", "files", "in", "licence"), rows)
    return 0


def get_datasets(arguments: argparse.Namespace) -> int:
    """Downloads, and prints where every file is."""
    unknown = [name for name in arguments.names if name not in DATASETS]
    if unknown:
        raise ValueError(
            f"expected names of data sets, got {', '.join(unknown)}. 'rnnlab data list' has them."
        )
    for name in arguments.names:
        for path in get(DATASETS[name], arguments.data_dir):
            print(f"{name}: {path}")
    return 0


def verify_files(arguments: argparse.Namespace) -> int:
    """Prints a line for each file, and a total.

    A file that is not here is bad only where the directory was named.
    """
    from rnnlab.data.verify import verify  # brings every reader

    good = missing = bad = records = 0
    for result in verify(arguments.data_dir):
        name = f"{result.dataset}/{result.file}"
        if result.path is None:
            missing += 1
            print(f"missing  {name}", flush=True)
        elif result.problem:
            bad += 1
            print(f"bad      {name}: {text(result.problem)}", flush=True)
        else:
            good += 1
            records += result.records or 0
            print(f"good     {name}: {result.records or 0:,} records, {result.path}", flush=True)
    print(f"{good} good with {records:,} records, {missing} missing, {bad} bad")
    return int(bad > 0 or (missing > 0 and arguments.data_dir is not None))
