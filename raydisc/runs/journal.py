"""The journal of a run's searches: Optuna's own file in the run's folder, which ``optuna-dashboard`` opens."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from raydisc.errors import InputError
from raydisc.runs.proposals import Curve, TrialResult
from raydisc.runs.sampling import Direction, Drawn, distributions
from raydisc.runs.warm_start import Observation
from raydisc.schedules.space import Dimension
from raydisc.storage.folder import Storage

if TYPE_CHECKING:
    from optuna import Study
    from optuna.storages import JournalStorage
    from optuna.trial import FrozenTrial

JOURNAL = "study.journal"
"""The journal in a run's folder."""

_EXPERIMENT, TRIAL, RUN = "experiment", "trial", "run"
"""What the journal notes of a study (the fingerprint of its experiment) and of a trial (its name; its earlier run)."""


class Journal:
    """The studies of a run, each the trials of one search.

    Args:
        files: The run's own part of the storage, which no other process writes meanwhile.
        experiment: The fingerprint of the run's experiment.

    Raises:
        InputError: There is a file of this name that is not a journal.
    """

    def __init__(self, files: Storage, experiment: str) -> None:
        """Read the journal if there is one."""
        self._files, self._experiment = files, experiment
        files.fetch_again(JOURNAL)
        self._mend()
        try:
            self.storage = self._opened()
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise InputError(
                f"'{files / JOURNAL}' is not a journal of Optuna that can be read; remove it, or give this run another "
                "name (--name)"
            ) from error

    def study(self, name: str, directions: Sequence[Direction]) -> StudyRecord:
        """Return the study of a name, which is begun where there is none.

        Raises:
            InputError: It is the study of another experiment.
        """
        import optuna

        found = name in optuna.get_all_study_names(self.storage)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            study = optuna.create_study(
                storage=self.storage, study_name=name, directions=list(directions), load_if_exists=True
            )
        if not found:
            study.set_user_attr(_EXPERIMENT, self._experiment)
        elif study.user_attrs.get(_EXPERIMENT, self._experiment) != self._experiment:
            raise InputError(
                f"'{self._files / JOURNAL}' has the study '{name}' of another experiment; remove the file, or give "
                "this run another name (--name)"
            )
        return StudyRecord(study, self)

    def publish(self) -> None:
        """Let others see what was written."""
        self._files.publish(JOURNAL)

    def _opened(self) -> JournalStorage:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        path = self._files.path(JOURNAL)
        path.parent.mkdir(parents=True, exist_ok=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return JournalStorage(JournalFileBackend(str(path)))

    def _mend(self) -> None:
        """Remove what a killed driver has left: its lock, and a line that it had not finished."""
        path = self._files.path(JOURNAL)
        path.with_name(f"{JOURNAL}.lock").unlink(missing_ok=True)
        if path.exists():
            written = path.read_bytes()
            whole = written.rfind(b"\n") + 1
            if whole < len(written):
                with path.open("r+b") as file:
                    file.truncate(whole)


class StudyRecord:
    """The trials of one search as the journal has them.

    Args:
        study: The study.
        journal: The journal.
    """

    def __init__(self, study: Study, journal: Journal) -> None:
        """Read the trials."""
        self._study, self._journal = study, journal
        trials = study.get_trials()
        self.observed = [trial for trial in trials if RUN in trial.user_attrs]
        """The trials of earlier runs that the search has begun with."""
        self._own: dict[str, FrozenTrial] = {}
        for trial in trials:
            if RUN not in trial.user_attrs:
                self._own[trial.user_attrs[TRIAL]] = trial  # one that failed and was run again stands last

    @property
    def proposed(self) -> list[FrozenTrial]:
        """The trials that were proposed, in order, each as it stands now."""
        return list(self._own.values())

    @property
    def is_warm(self) -> bool:
        """Whether the trials of an earlier run are there."""
        return RUN in self._study.user_attrs

    def curves(self) -> dict[str, Curve]:
        """Return the evaluations of the students of trials that have ended, by the trials' names."""
        return {
            name: tuple((float(flops), metric) for flops, metric in sorted(trial.intermediate_values.items()))
            for name, trial in self._own.items()
            if trial.state.is_finished()
        }

    def observe(self, run: str, trials: Sequence[Observation], of: Mapping[str, Dimension], objectives: int) -> None:
        """Add finished trials of an earlier run.

        Args:
            run: The run.
            trials: The trials.
            of: The dimensions.
            objectives: The number of objectives: the metric alone, or with the FLOPs.
        """
        from optuna.trial import TrialState

        there = {trial.user_attrs[TRIAL] for trial in self.observed}  # a driver was killed meanwhile
        for trial in trials:
            if trial.name not in there:
                self.observed.append(self._add(
                    state=TrialState.COMPLETE, params=dict(trial.values), distributions=distributions(of),
                    values=[trial.metric, trial.flops][:objectives], user_attrs={RUN: run, TRIAL: trial.name},
                ))  # fmt: skip
        self._study.set_user_attr(RUN, run)
        self._journal.publish()

    def propose(self, trial: str, drawn: Drawn, of: Mapping[str, Dimension]) -> None:
        """Add a trial that is to be run.

        Args:
            trial: Its name.
            drawn: What was drawn for it.
            of: The dimensions.
        """
        from optuna.trial import TrialState

        self._own[trial] = self._add(
            state=TrialState.RUNNING, params=dict(drawn.values), distributions=distributions(of),
            system_attrs=dict(drawn.notes), user_attrs={TRIAL: trial},
        )  # fmt: skip

    def end(self, trial: str, result: TrialResult, objectives: Sequence[float] | None) -> None:
        """Note what came of a trial, unless that is known.

        Args:
            trial: Its name.
            result: The result.
            objectives: What the search looks for; None where the trial has nothing of it.
        """
        from optuna.trial import TrialState

        known = self._own[trial]
        if known.state.is_finished():
            if known.state != TrialState.FAIL or result.state == "failed":
                return
            known = self._add(  # run again by a run that was resumed
                state=TrialState.RUNNING, params=known.params, distributions=known.distributions,
                system_attrs=known.system_attrs, user_attrs=known.user_attrs,
            )  # fmt: skip
        for flops, metric in result.curve:  # samplers take stopped trials that came farther first
            self._journal.storage.set_trial_intermediate_value(known._trial_id, int(flops), metric)
        if result.state == "stopped early" and result.curve:
            self._study.tell(known.number, state=TrialState.PRUNED)
        elif result.state == "finished" and objectives is not None:
            self._study.tell(known.number, list(objectives))
        else:
            self._study.tell(known.number, state=TrialState.FAIL)
        self._own[trial] = self._study.get_trials()[known.number]
        self._journal.publish()

    def _add(self, **what: Any) -> FrozenTrial:
        from optuna.trial import create_trial

        self._study.add_trial(create_trial(**what))
        self._journal.publish()
        return self._study.get_trials()[-1]
