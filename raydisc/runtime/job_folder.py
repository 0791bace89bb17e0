"""The folder of what travelled with a submitted job, on whichever machine a process of the job is."""

import os
from importlib.util import find_spec

JOB_FOLDER = "raydisc_job"
"""The name of the folder, which Ray unpacks on every machine as if it were a Python package, beside raydisc's code."""


def enter_job_folder() -> None:
    """Make the job's folder the current one, where relative names of files start; without a job, change nothing.

    Ray's ``working_dir`` would do so by itself, but each node that hears of a job removes and unpacks that folder
    anew: where nodes share a session folder, as several on one machine do, under processes that are at work in it.
    A package that is there already is left alone.
    """
    found = find_spec(JOB_FOLDER)
    if found is not None and found.submodule_search_locations:
        os.chdir(next(iter(found.submodule_search_locations)))
