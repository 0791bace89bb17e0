"""A task with words of raydisc's own tokenizer: whether something is praised."""

import itertools

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, PositiveInt

from raydisc.tasks.named import Task
from raydisc.tasks.source import TaskSource

THINGS = ("food", "room", "staff", "music", "view", "price")
GOOD, BAD = ("good", "great", "nice", "superb"), ("awful", "dull", "poor", "bad")


class Praise(Task):
    """Sentences such as ``the food was good``."""

    name = "praise"

    class Options(BaseModel):
        """The options of the task."""

        model_config = ConfigDict(extra="forbid")
        copies: PositiveInt = 4

    def load(self, options):
        """Return every sentence a number of times."""
        rows = [
            {"text": f"the {thing} was {word}", "mood": mood}
            for thing, (words, mood) in itertools.product(THINGS, ((GOOD, "praise"), (BAD, "blame")))
            for word in words
        ]
        table = pa.Table.from_pylist(rows * options.copies)
        return TaskSource({"train": table, "validation": table, "test": table}, ("text",), "mean_recall", label="mood")
