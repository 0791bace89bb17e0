"""How a command or a job ends: one sentence on standard error for what went wrong, and an exit code."""

import sys
from collections.abc import Callable, Sequence

from raydisc.errors import InputError, StorageError

DONE, FAILED, BAD_INPUT, STOPPED = 0, 1, 2, 3
"""Exit codes. Bad input can be corrected by the user, as with argparse's own 2; a stopped run can be resumed."""


def exit_code_of(act: Callable[[], int]) -> int:
    """The exit code of what is done; an error that users meet is told in its sentence."""
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
    """Tell what of a run went wrong, or would be next; its exit code.

    Args:
        failures: a sentence for each job that failed.
        following: jobs that were not begun, as the budget was spent.
        go_on: how to go on with more of it.
    """
    for failure in failures:
        say(failure)
    if following:
        say(f"the budget is spent; next would be: {', '.join(following)}")
        say(go_on)
        return STOPPED
    return FAILED if failures else DONE


def say(sentence: str) -> None:
    """Tell a person something on standard error."""
    print(f"raydisc: {sentence}", file=sys.stderr)
