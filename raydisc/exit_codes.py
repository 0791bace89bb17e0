"""The exit codes of commands and jobs, and the sentence on standard error that comes with a failure."""

import os
import select
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress

from raydisc.errors import InputError, StorageError

DONE, FAILED, BAD_INPUT, STOPPED = 0, 1, 2, 3
"""Exit codes. Bad input can be corrected by the user, as with argparse's own 2; a stopped run can be resumed."""

READER_GONE = 141
"""The exit code where the reader of the output has gone, such as ``head``: that of a command that SIGPIPE ends."""


def exit_code_of(act: Callable[[], int]) -> int:
    """Call a command and return its exit code; print the sentence of an error that users meet.

    A command whose reader has gone ends without a word.
    """
    try:
        try:
            return _exit_code_of(act)
        finally:
            print(end="", flush=True)  # or Python would do it when nobody can act on the error any more
    except BrokenPipeError:
        if not _silence():
            raise
        return READER_GONE


def _silence() -> bool:
    """Lead each output whose reader has gone to nowhere; whether there is one."""
    gone = []
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError):  # it is closed, or no file of the system
            poll = select.poll()
            poll.register(stream.fileno(), 0)  # which asks for errors alone
            if poll.poll(0):
                gone.append(stream.fileno())
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for number in gone:
        os.dup2(nowhere, number)
    os.close(nowhere)
    return bool(gone)


def _exit_code_of(act: Callable[[], int]) -> int:
    try:
        return act()
    except InputError as error:
        say(str(error))
        return BAD_INPUT
    except StorageError as error:
        say(str(error))
        return FAILED
    except KeyboardInterrupt:
        say("interrupted; finished stages are kept")
        return STOPPED


def exit_code_of_run(failures: Sequence[str], following: Sequence[str], go_on: str) -> int:
    """Print which jobs of a run failed or are still to be run, and return the run's exit code.

    Args:
        failures: One sentence for each job that failed.
        following: The names of the jobs that were not started because the budget was spent.
        go_on: The sentence that says how to continue with a larger budget.
    """
    for failure in failures:
        say(failure)
    if following:
        say(f"the budget is spent; next would be: {', '.join(following)}")
        say(go_on)
        return STOPPED
    return FAILED if failures else DONE


def say(sentence: str) -> None:
    """Print a sentence for the user on standard error."""
    print(f"raydisc: {sentence}", file=sys.stderr)
