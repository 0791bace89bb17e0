"""The folder of what travelled with a submitted job, on whichever machine a process of the job is."""

import os
from importlib.util import find_spec

JOB_FOLDER = "raydisc_job"
"""The name of the folder, which Ray unpacks on every machine as if it were a Python package, beside raydisc's code."""


def enter_job_folder() -> None:
    """Make the job's folder the current one, where relative names of files start; without a job, change nothing.

    Ray's own ``working_dir`` is removed and unpacked again by each node that hears of a job. Nodes on one machine may
    share a session folder, so that one of them would remove the folder that processes of another work in. A package
    that is already there is left alone.
    """
    found = find_spec(JOB_FOLDER)
    if found is not None and found.submodule_search_locations:
        os.chdir(next(iter(found.submodule_search_locations)))
