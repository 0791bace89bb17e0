"""Whole schedules in bfloat16: their models compute in it, what they keep is float32, and the choice is the same."""

import numpy as np
import pytest
import torch
from tiny_runs import Told, executor, search_of, tiny_experiment
from tiny_schedules import minidisc
from torch import nn

from raydisc.models.build import load_frozen
from raydisc.models.precision import Arithmetic, has_bfloat16
from raydisc.stages.artifact import Model
from raydisc.stages.evaluate import Evaluate
from raydisc.stages.files import read_split, read_weights
from raydisc.stages.scoring import score
from raydisc.tradeoff import tradeoff
from raydisc.training.checkpoint import load
from raydisc.training.inference import Pass
from raydisc.training.predictions import predict

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(
        not has_bfloat16(torch.device("cpu")), reason="this machine's processor has no bfloat16 arithmetic"
    ),
]

LAM = 0.2


class Killed(BaseException):
    """What a killed process looks like from inside."""


class Run:
    """MiniDisc and its test in a precision, killed once and gone on with.

    Returns the types of the outputs of each stage's linear layers, and those of the checkpoint.
    """

    def __init__(self, storage, search, precision):
        self.stage, self.types, self.told = None, {}, Told()
        arithmetic = Arithmetic(1, precision)
        run = executor(storage, self.told, self.hear, arithmetic=arithmetic)
        killed = executor(storage, None, self.hear, checkpoint_every_s=0.0, arithmetic=arithmetic)
        self.store, self.checkpoint = run.store, {}
        hook = nn.modules.module.register_module_forward_hook(self.see)
        try:
            run.run(search.prepare())
            with pytest.raises(Killed):
                killed.run(minidisc(search, LAM, 1, False))
            [folder] = (storage / "artifacts").glob("*.partial")
            tensors = load(folder).tensors
            self.checkpoint = {name: (tensor.dtype, tensor.ndim) for name, tensor in tensors.items()}
            self.outcome = run.run(minidisc(search, LAM, 1, False))
            run.execute(Evaluate(self.artifact("tokenise"), self.outcome.student))
        finally:
            hook.remove()

    def hear(self, found):
        self.stage = found.stage
        if self.stage == "once_for_all" and found.step == 4 and not self.checkpoint:
            raise Killed

    def see(self, module, args, output):
        if isinstance(module, nn.Linear):
            self.types.setdefault(self.stage, set()).add(output.dtype)

    def artifact(self, kind):
        return next(artifact for request, artifact, _ in self.told.stages if request.kind == kind)

    def evaluation(self, kind):
        return self.artifact(kind)["evaluations"][-1]

    def logits(self, model, split, precision):
        weights = read_weights(self.store, model)
        frozen = load_frozen(weights.config, weights.structure, weights.state)
        return predict(frozen, split, 0, Pass(64, precision=precision))


@pytest.fixture(scope="module")
def search():
    return search_of(tiny_experiment())


@pytest.fixture(scope="module")
def exact(search, tmp_path_factory):
    return Run(tmp_path_factory.mktemp("float32"), search, "float32")


@pytest.fixture(scope="module")
def rounded(search, tmp_path_factory):
    return Run(tmp_path_factory.mktemp("bfloat16"), search, "bfloat16")


def test_every_model_computes_in_it_but_the_scores_of_units(exact, rounded):
    kinds = {"finetune", "teacher_outputs", "importance", "once_for_all", "distil", "evaluate"}
    assert exact.types == {kind: {torch.float32} for kind in kinds}
    assert rounded.types == {kind: {torch.bfloat16} for kind in kinds} | {"importance": {torch.float32}}


def test_no_stage_is_shared_between_precisions(exact, rounded):
    assert [request.kind for request, _, _ in exact.told.stages] == [
        request.kind for request, _, _ in rounded.told.stages
    ]
    assert not set(exact.told.keys) & set(rounded.told.keys)


def test_weights_are_kept_in_float32(exact, rounded):
    for kind in ("finetune", "importance", "once_for_all", "distil"):
        mine, theirs = (read_weights(run.store, Model(run.artifact(kind))).state for run in (rounded, exact))
        assert mine.keys() == theirs.keys()
        assert {tensor.dtype for tensor in mine.values()} == {torch.float32}


def test_a_trained_model_is_the_same_in_both(exact):
    """The finished supernet and student, computed in float32 and in bfloat16."""
    data, supernet = exact.artifact("tokenise"), exact.outcome.supernet
    validation = read_split(exact.store, data, "validation")
    rankings = []
    for precision in ("float32", "bfloat16"):
        found = {}
        for candidate in supernet["candidates"]:
            logits = exact.logits(Model(supernet, candidate["scale"]), validation, precision)
            found[candidate["scale"]], _ = score(data["metric"], logits, validation.labels)
        rankings.append(sorted(found, key=lambda scale: tradeoff(found[scale], scale, LAM), reverse=True))
    assert rankings[0] == rankings[1]
    mine, theirs = (exact.logits(Model(exact.outcome.student), validation, it) for it in ("bfloat16", "float32"))
    assert np.mean(mine.argmax(axis=1) == theirs.argmax(axis=1)) >= 0.95
    assert 0 < np.linalg.norm(mine - theirs) < 0.05 * np.linalg.norm(theirs)


def test_a_model_trained_in_it_is_as_good(exact, rounded):
    for kind in ("finetune", "distil"):
        mine, theirs = rounded.evaluation(kind), exact.evaluation(kind)
        assert abs(mine["metric"] - theirs["metric"]) < 2 * theirs["se"]
    teachers = [
        run.logits(Model(run.artifact("finetune")), read_split(run.store, run.artifact("tokenise"), "test"), "float32")
        for run in (rounded, exact)
    ]
    assert np.mean(teachers[0].argmax(axis=1) == teachers[1].argmax(axis=1)) >= 0.9


def test_a_checkpoint_holds_the_same_in_both(exact, rounded):
    assert rounded.checkpoint == exact.checkpoint
    kinds = {tensor_type for tensor_type, _ in rounded.checkpoint.values()}
    assert kinds == {torch.float32, torch.uint8}  # the random state is bytes
