"""The training state that a broken-off training leaves beside its weights, from which another stage goes on."""

from raydisc.parallel.rank import Rank
from raydisc.stages.artifact import Artifact
from raydisc.stages.files import read_tensors, tensor_blob
from raydisc.stages.store import ArtifactStore, Blob
from raydisc.training.checkpoint import TrainingState

_STATE = "state.safetensors"
"""The file with everything that the next step depends on."""


def state_blobs(state: TrainingState, rank: Rank) -> dict[str, Blob]:
    """Return the file of a training state; sharded tensors are written by all workers together."""
    return {_STATE: tensor_blob(state.tensors, rank)}


def state_left_by(artifact: Artifact, steps: int, whole_table: bool, store: ArtifactStore) -> TrainingState:
    """Return the state in which a training was broken off; its tensors are views of the artifact's file.

    Args:
        artifact: What the training has left.
        steps: The number of steps that were done.
        whole_table: Whether the whole word embedding is trained; see ``TrainingState``.
        store: The artifacts.
    """
    return TrainingState(steps, whole_table=whole_table, tensors=read_tensors(store, artifact, _STATE))
