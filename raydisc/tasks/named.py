"""Tasks that an experiment file calls by name, which packages add to raydisc."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, ValidationError

from raydisc.config.yaml_file import explain
from raydisc.errors import InputError
from raydisc.registry import Registry
from raydisc.tasks.source import TaskSource

if TYPE_CHECKING:
    from raydisc.config.sections import TaskConfig


class NoOptions(BaseModel):
    """No options."""

    model_config = ConfigDict(extra="forbid")


class Task(ABC):
    """A task that experiment files may call by its name.

    A subclass is added with ``TASKS.register``, or by an installed package that lists it under the entry-point group
    ``raydisc.tasks``. An experiment file then says::

        task: {name: tweets, options: {year: 2024}}

    Every process of a run loads the task for itself, so a package that is installed wherever trials run is needed for
    a run on a cluster, and ``load`` must return the same rows every time.

    Attributes:
        name: The name in experiment files.
        Options: A pydantic model of the options in experiment files.

    Example:
        >>> class Tweets(Task):
        ...     name = "tweets"
        ...
        ...     class Options(BaseModel):
        ...         year: int = 2024
        ...
        ...     def load(self, options: Options) -> TaskSource:
        ...         rows = pa.table({"text": ["well done", "oh no"], "mood": ["good", "bad"]})
        ...         return TaskSource({"train": rows, "validation": rows}, ("text",), "accuracy", label="mood")
        >>> Tweets().load(Tweets.Options()).splits["train"].num_rows
        2
        >>> with TASKS.registering(Tweets):
        ...     "tweets" in TASKS.names()
        True
    """

    name: ClassVar[str]
    Options: ClassVar[type[BaseModel]] = NoOptions

    @abstractmethod
    def load(self, options: Any) -> TaskSource:
        """Return the rows of the task and how a model is judged on them.

        Args:
            options: The options of the experiment file, validated: an instance of ``Options``.
        """


TASKS: Registry[type[Task]] = Registry("raydisc.tasks", "task", Task)
"""Every task by its name in an experiment file."""


def read_named(config: TaskConfig) -> TaskSource:
    """Load the task that a ``task`` section calls by name.

    Raises:
        InputError: There is no such task, its options are wrong, or it does not return what it should.
    """
    task = TASKS.get(config.name or "", "task.name")
    try:
        options = task.Options.model_validate(config.options)
    except ValidationError as error:
        raise InputError(f"task.options: {explain(error, config.options)}") from error
    source = task().load(options)
    if not isinstance(source, TaskSource):
        raise InputError(f"task.name: the task '{task.name}' returned {type(source).__name__} instead of a TaskSource")
    for split in ("train", "validation"):
        if not isinstance(source.splits.get(split), pa.Table):
            raise InputError(f"task.name: the task '{task.name}' has no {split} split; it should be a pyarrow table")
    places = {split: f"the {split} split of the task {task.name!r}" for split in source.splits}
    return replace(source, name=source.name or task.name, places={**places, **source.places})
