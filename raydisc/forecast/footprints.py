"""The footprint of each stage: its heaviest step, run on tensors without contents."""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn

from raydisc.families.registry import layers_in
from raydisc.forecast.dry_run import Forecaster, Planned
from raydisc.forecast.memory import Allocations, bytes_of, without_contents
from raydisc.forecast.stand_ins import batch_of, batches_of, signal_for, target_bytes
from raydisc.models.build import build, compute_twice
from raydisc.models.precision import Precision
from raydisc.models.structure import Structure
from raydisc.models.task_heads import weights_of
from raydisc.parallel.footprint import Footprint
from raydisc.stages.plan import Run
from raydisc.stages.scoring import run_evaluation
from raydisc.stages.training import Pupil, Training
from raydisc.stages.work import over_split
from raydisc.supernet.elastic import make_elastic, select_all
from raydisc.training.batches import optimiser_settings
from raydisc.training.compact_embedding import CompactVocabulary
from raydisc.training.dropout import set_dropout
from raydisc.training.optimiser import adamw, descend


class Footprints:
    """The footprints of a forecast's stages; stages with equal steps are run once.

    Args:
        forecaster: What plans the stages; batches are of the tokenised task that all trials share.
        precision: The precision to compute in.
        checkpointing: Whether activations are computed again in the backward.
    """

    def __init__(self, forecaster: Forecaster, precision: Precision, checkpointing: bool = False) -> None:
        """See the class."""
        self._outlook, self._data = forecaster.outlook, forecaster.ready.data
        self._precision, self._checkpointing = precision, checkpointing
        self._found: dict[Any, Footprint] = {}

    def of(self, stage: Planned) -> Footprint | None:
        """Return the footprint of a stage; None where no model is run."""
        work, training, run = stage.plan.work, stage.plan.training, stage.plan.run
        if not work.passes:
            return None
        heaviest = tuple((passes.way, passes.structure, passes.largest) for passes in work.passes)
        key: tuple[object, ...] = (stage.request.kind, heaviest, work.trained)
        if training is not None:
            towards = training.towards
            target = None if towards is None else (towards.objective, towards.outputs is None)
            key += (
                bool(training.evaluate_at),
                training.ends_at is None,
                training.evaluation_rows,
                target,
                training.dropout,
                training.keeps_best,
            )
        if key not in self._found:
            if training is not None:
                self._found[key] = self._trained(training)
            else:
                assert run is not None
                self._found[key] = self._frozen(stage, run)
        return self._found[key]

    def _trained(self, training: Training) -> Footprint:
        """Measure the steps of a model that has been trained before, with the evaluations between and after them."""
        outlook, shapes = self._outlook, training.heaviest()
        targets = max(target_bytes(training, it) for it in shapes)
        with without_contents():
            counted = Allocations()
            signal = signal_for(training, self._precision, counted)
            steps = [batches_of(outlook.store, self._data, it) for it in shapes]
            model = self._model(training)
            counted.watch(model)
            with counted:
                tokens = training.source.tokens()
                vocabulary = None if tokens is None else CompactVocabulary(model, tokens)
                weights, trained = counted.now, [it for it in model.parameters() if it.requires_grad]
                gradients = sum(parameter.nbytes for parameter in trained)
                counted.watch_gradients(trained)
                optimiser = adamw(model, trained, optimiser_settings(training.config))
                _make_moments(optimiser, trained)
                moments = counted.now - weights
                counted.forget()
                if training.evaluate_at:
                    with nullcontext() if vocabulary is None else vocabulary.whole(1.0):
                        self._evaluate(model, training, training.evaluation_rows)
                    best = [it.clone() for it in weights_of(model).values()] if training.keeps_best else []
                    weights += sum(it.nbytes for it in best)
                model.train()
                learn = training.learner(Pupil(model, signal, self._precision))
                for step in steps:
                    learn(step)
                    descend(optimiser, trained, training.config.max_grad_norm)
                    counted.gradients_gone()
                left = optimiser if training.ends_at is not None else None  # to the stage that goes on with it
                del optimiser, trained, learn
                if vocabulary is not None:
                    vocabulary.restore(1.0)
                del vocabulary
                self._evaluate(model, training, None if left is None else training.evaluation_rows)
                del left
        return Footprint(
            weights=weights,
            gradients=gradients,
            optimiser=moments,
            activations=max(0, counted.peak - weights - moments - targets - counted.gradients_at_peak),
            targets=targets,
            block=self._block(training.structure),
            peak=counted.peak,
        )

    def _model(self, training: Training) -> nn.Module:
        model = build(self._outlook.config, training.structure)
        if training.elastic:
            make_elastic(model, self._outlook.config)
        set_dropout(model, training.dropout)
        if self._checkpointing:
            compute_twice(model)
        return model

    def _evaluate(self, model: nn.Module, training: Training, rows: int | None) -> None:
        """Run the largest batch of an evaluation in a training stage, by the largest model that is evaluated there."""
        if training.elastic:
            select_all(model, self._outlook.config)
        validation = self._outlook.split(self._data, "validation", rows)
        batch = batch_of(self._outlook.store, self._data, over_split(training.structure, validation).largest)
        run_evaluation(model.eval(), [batch], self._precision)

    def _frozen(self, stage: Planned, run: Run) -> Footprint:
        """Measure the largest batches of a stage that trains nothing."""
        [passes] = stage.plan.work.passes
        with without_contents():
            counted = Allocations()
            model = build(self._outlook.config, passes.structure).requires_grad_(False).eval()
            counted.watch(model)
            weights = counted.now
            batches = [batch_of(self._outlook.store, self._data, shape) for shape in passes.heaviest(2)]
            with counted:
                run(model, batches, self._precision)
        activations = counted.peak - weights
        return Footprint(weights, 0, 0, activations, 0, self._block(passes.structure), counted.peak)

    def _block(self, structure: Structure) -> int:
        """Return the bytes of the largest of what a sharded model gathers at once: a layer, or all outside of them."""
        with torch.device("meta"):
            model = build(self._outlook.config, structure)
        layers = [
            sum(model.get_parameter(f"{linear.path}.weight").nbytes for linear in units.linears)
            for units in layers_in(model, self._outlook.config)
        ]
        return max(*layers, bytes_of(model) - sum(layers))


def _make_moments(optimiser: torch.optim.Optimizer, trained: Sequence[nn.Parameter]) -> None:
    """Make AdamW's moments, which its first step makes and which live ever after."""
    for parameter in trained:
        parameter.grad = torch.zeros_like(parameter)
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
