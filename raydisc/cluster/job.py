"""What a job runs on the cluster, in the folder that was packed: `python -m raydisc.cluster.job`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from raydisc.cluster.environment import refuse_other_versions
from raydisc.cluster.pack import EXPERIMENT_FILE, REQUIREMENTS_FILE
from raydisc.command_line import BAD_INPUT, DONE, FAILED, STOPPED
from raydisc.errors import InputError, StorageError

RESULT = "------ result ------"
"""The line of a job's log after which only the comparison follows, as a table or as JSON."""


def main(as_json: bool) -> int:
    """Run the packed experiment; gives the exit code.

    Args:
        as_json: Whether the comparison is told as JSON.
    """
    try:
        refuse_other_versions(Path(REQUIREMENTS_FILE).read_text().splitlines())
        return _run(as_json)
    except InputError as error:
        print(f"raydisc: {error}", file=sys.stderr)
        return BAD_INPUT
    except StorageError as error:
        print(f"raydisc: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("raydisc: interrupted; finished stages are kept", file=sys.stderr)
        return STOPPED


def _run(as_json: bool) -> int:
    # Only now: other versions may not even be importable.
    from raydisc.experiment import load_experiment
    from raydisc.report.ledger import Ledger
    from raydisc.report.live import LiveReporter
    from raydisc.report.tables import print_comparison
    from raydisc.runtime.driver import run_experiment
    from raydisc.storage.address import open_storage

    experiment = load_experiment(EXPERIMENT_FILE)
    result = run_experiment(experiment, LiveReporter(plain=True), keep_names=True)
    for failure in result.failures:
        print(f"raydisc: {failure}", file=sys.stderr)
    if result.following:
        print(f"raydisc: the budget is spent; next would be: {', '.join(result.following)}", file=sys.stderr)
        print("raydisc: submitting the file again with more of it goes on", file=sys.stderr)
    print(RESULT)
    if as_json:
        print(json.dumps(result.comparison))
    else:
        print_comparison(Ledger(open_storage(experiment.storage) / "ledger"), [experiment.name], plain=True)
    return STOPPED if result.following else FAILED if result.failures else DONE


if __name__ == "__main__":
    sys.exit(main("--json" in sys.argv[1:]))
