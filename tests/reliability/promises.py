"""What training promises: every row of the reliability table, in one place."""

from typing import NamedTuple


class Promise(NamedTuple):
    """A row: what is injected, what then has to happen, and how often that is to be shown."""

    text: str
    target: int = 1  # good endings, of as many injected faults


PROMISES = {
    "R1": Promise("kill -9 at any time: the same command ends bit for bit as if nothing was", 200),
    "R2": Promise("the same for every task family, with carried state and without", 20),
    "R3": Promise("a flipped bit in the newest checkpoint: seen, or where nothing is read", 1000),
    "R4": Promise("a file of it truncated, emptied or deleted: the one before it is used", 3),
    "R5": Promise("every checkpoint bad: exit 4 with what was tried, never a fresh start"),
    "R6": Promise("disk full in a save: exit 5 with both sizes, the older checkpoint restores", 20),
    "R7": Promise("disk full for metrics or plots: training goes on, one warning"),
    "R8": Promise("SIGTERM or SIGINT: saved and exit 75; a second one exits at once", 60),
    "R9": Promise("SIGTERM to one of two processes: both save the same step and exit 75", 10),
    "R10": Promise("a rank killed: the others end, the cause is named, the restart is exact", 20),
    "R11": Promise("NaN or Inf: skipped and counted, exit 3 after too many in a row"),
    "R13": Promise("resumed on 1, 2, 8 devices: state exact, same samples, loss within 1e-5", 6),
    "R14": Promise("resumed with 1 or 2 processes: no example lost or doubled"),
    "R15": Promise("the same seed twice in fresh processes: bitwise equal"),
    "R16": Promise("resumed with another architecture, data or seed: refused with the difference"),
    "R17": Promise("a download that is corrupt, short or something else: refused, removed", 8),
    "R18": Promise("two runs on one directory or cache: the second is refused, or waits"),
    "R19": Promise("a hostile archive: refused, nothing outside its folder, bounded size", 10),
    "R20": Promise("hostile run or file names: refused, or inside their folder", 500),
    "R21": Promise("a hostile checkpoint: no code runs, nothing outside, bounded memory"),
    "R22": Promise("malformed data: an error that names file and place"),
    "R23": Promise("out of memory: the sizes, the flags to lower, exit 6"),
    "R25": Promise("soak: memory, descriptors and threads flat, one compilation per shape"),
    "R26": Promise("clock jump, read-only or missing directory, no home, no network"),
}
"""Row -> promise. A test that shows one carries `@pytest.mark.promise(row)`."""
