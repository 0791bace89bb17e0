"""The program of a job on the cluster, which starts from the packed folder: ``python -P -m raydisc.cluster.job``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from raydisc.cluster.environment import refuse_other_versions
from raydisc.cluster.pack import EXPERIMENT_FILE, REQUIREMENTS_FILE
from raydisc.exit_codes import exit_code_of, exit_code_of_run
from raydisc.runtime.job_folder import enter_job_folder

RESULT = "------ result ------"
"""The line of a job's log after which only the comparison follows, as a table or as JSON."""


def main(as_json: bool) -> int:
    """Run the packed experiment and return the exit code.

    Args:
        as_json: Whether to print the comparison as JSON.
    """
    return exit_code_of(lambda: _run(as_json))


def _run(as_json: bool) -> int:
    enter_job_folder()
    refuse_other_versions(Path(REQUIREMENTS_FILE).read_text().splitlines())
    # Imported only now, because other versions may not even be importable.
    from raydisc.config.experiment import load_experiment
    from raydisc.report.ledger import Ledger
    from raydisc.report.live.reporter import LiveReporter
    from raydisc.report.tables import print_comparison
    from raydisc.runtime.driver import run_experiment
    from raydisc.storage.address import open_storage

    experiment = load_experiment(EXPERIMENT_FILE)
    result = run_experiment(experiment, LiveReporter(plain=True), keep_names=True)
    again = "continue by submitting the same file with a larger budget"
    code = exit_code_of_run(result.failures, result.following, again)
    print(RESULT)
    if as_json:
        print(json.dumps(result.comparison))
    else:
        print_comparison(Ledger(open_storage(experiment.storage) / "ledger"), [experiment.name], plain=True)
    return code


if __name__ == "__main__":
    sys.exit(main("--json" in sys.argv[1:]))
