"""A stage: it counts the tokens that occur in the training rows."""

from dataclasses import dataclass
from typing import ClassVar

from raydisc.stages.artifact import Artifact
from raydisc.stages.base import Stage
from raydisc.stages.context import Result
from raydisc.stages.files import json_blob, read_split
from raydisc.stages.kinds import Kind
from raydisc.stages.plan import Plan


@dataclass(frozen=True)
class TokenCounts(Stage):
    """Count the different tokens of the training rows, and keep them in a file."""

    kind: ClassVar[str] = "token_counts"
    about: ClassVar[Kind] = Kind(searched=False)
    by_one: ClassVar[bool] = True
    data: Artifact

    def compute(self, context):
        """Look through the training rows."""
        tokens = read_split(context.store, self.data, "train").tokens()
        return Result({"tokens": len(tokens)}, flops=0.0, blobs={"tokens.json": json_blob(tokens.tolist())})

    def plan(self, outlook):
        """Promise the count, which a look at the rows gives."""
        return Plan({"tokens": len(outlook.split(self.data, "train").tokens())})

    def label(self, undecided=False):
        """Return the name in tables."""
        return "token counts"
