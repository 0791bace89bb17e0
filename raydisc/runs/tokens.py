"""The tokens of a run's task, which are there before its jobs are planned.

Keys depend on how many there are: their number decides whether outputs of teachers are kept, and which settings leave
something out.
"""

import time
from collections.abc import Callable

import torch

from raydisc.config.experiment import Experiment
from raydisc.models.precision import Arithmetic
from raydisc.report.ledger import Ledger
from raydisc.runs.jobs import PREPARE
from raydisc.runs.recorder import Recorder
from raydisc.schedules.trials import preparation
from raydisc.stages.artifact import Artifact
from raydisc.stages.executor import Executor, StageEvent
from raydisc.stages.problem import Subject
from raydisc.stages.store import ArtifactStore
from raydisc.stages.worker import Worker
from raydisc.storage.folder import Storage

_PATIENCE_S = 5.0
"""The seconds after which a notice says what is waited for."""


def tokens_first(
    experiment: Experiment,
    subject: Subject,
    storage: Storage,
    arithmetic: Arithmetic,
    find: Callable[[str], Artifact | None],
    notice: Callable[[str], None],
) -> Artifact:
    """Return the tokenised task of a run; where it is not in the storage, tokenise it in this process.

    Args:
        experiment: The experiment.
        subject: Its task and its teacher.
        storage: The storage.
        arithmetic: The arithmetic of the run, for the ledger.
        find: Returns a finished stage's artifact by its key, or None.
        notice: Shows a sentence to the user.

    Raises:
        InputError: The task cannot be tokenised.
    """
    request = next(preparation(experiment, subject, experiment.teachers[0]))
    found = find(request.key(arithmetic))
    if found is not None:
        return found
    began, told = time.monotonic(), False

    def progress(_: StageEvent) -> None:
        nonlocal told
        if not told and time.monotonic() - began > _PATIENCE_S:
            told = True
            notice("the task is being tokenised")

    store = ArtifactStore(storage)
    recorder = Recorder(Ledger(storage / "ledger"), store, experiment.name, PREPARE, arithmetic, subject.metric)
    worker = Worker(store, torch.device("cpu"))
    return Executor(store, worker, arithmetic, progress, recorder.stage).execute(request)
