"""The footprint of each stage: its heaviest step, run on tensors without contents."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn

from raydisc.families.registry import layers_of
from raydisc.forecast.dry_run import Planned
from raydisc.forecast.memory import Allocations, bytes_of, run_evaluation, run_outputs, without_contents
from raydisc.forecast.stages import World
from raydisc.forecast.teaching import Teaching, batch_of, heaviest_steps, source_of
from raydisc.forecast.work import over_split
from raydisc.models.build import build, compute_twice
from raydisc.models.precision import Precision
from raydisc.models.task_heads import weights_of
from raydisc.models.widths import Widths
from raydisc.parallel.footprint import Footprint
from raydisc.schedules.base import Choice
from raydisc.stages.artifact import Artifact
from raydisc.stages.distil import Distil
from raydisc.stages.files import read_split
from raydisc.stages.finetune import FineTune
from raydisc.stages.importance import Importance
from raydisc.stages.once_for_all.stage import OnceForAll
from raydisc.stages.targets import tokens_named
from raydisc.stages.teacher_outputs import TeacherOutputs
from raydisc.supernet.elastic import make_elastic, select
from raydisc.supernet.importance import gradient_importance
from raydisc.training.batches import optimiser_settings
from raydisc.training.compact_embedding import CompactVocabulary
from raydisc.training.dropout import set_dropout
from raydisc.training.optimiser import adamw

Backward = Callable[[nn.Module], None]
"""Forward and backward of a step; leaves gradients."""


class Footprints:
    """The footprints of a forecast's stages; stages with equal steps are run once.

    Args:
        world: what the forecast knows.
        precision: to compute in.
        checkpointing: whether activations are computed again in the backward.
    """

    def __init__(self, world: World, precision: Precision, checkpointing: bool = False) -> None:
        """See the class."""
        self._world, self._precision, self._checkpointing = world, precision, checkpointing
        self._known: dict[Any, Footprint] = {}

    def of(self, stage: Planned, assistants: tuple[float, ...] = ()) -> Footprint | None:
        """The footprint of a stage of a trial that chooses these assistants; None where no model is run."""
        if not stage.work.passes:
            return None
        heaviest = tuple((passes.way, passes.widths, passes.largest) for passes in stage.work.passes)
        key = (type(stage.request), heaviest, stage.work.trained, stage.work.evaluates)
        if key not in self._known:
            self._known[key] = self._measured(stage, assistants)
        return self._known[key]

    def _measured(self, stage: Planned, assistants: tuple[float, ...]) -> Footprint:
        request = stage.request
        if stage.work.trained is None or not isinstance(request, FineTune | OnceForAll | Distil):
            return self._frozen(stage)
        if isinstance(request, OnceForAll):
            heaviest = heaviest_steps(request, self._world.choosing(Choice(assistants)))
            shapes = [[shape for _, shape in taught] for taught in heaviest]
        else:
            shapes = [[passes.largest for passes in stage.work.passes if passes.way == "train"]]
        with without_contents():
            counted = Allocations()
            teaching = Teaching.of(self._world, request, self._precision, counted)
            steps: list[Backward] = (
                [
                    partial(teaching.learn_together, taught=[(it, teaching.batch(shape)) for it, shape in taught])
                    for taught in heaviest
                ]
                if isinstance(request, OnceForAll)
                else [partial(teaching.learn, batch=teaching.batch(shape)) for [shape] in shapes]
            )
            return self._trained(stage, teaching, counted, steps, max(map(teaching.target_bytes, shapes)))

    def _trained(
        self, stage: Planned, teaching: Teaching, counted: Allocations, steps: Sequence[Backward], targets: int
    ) -> Footprint:
        """The steps of a model that has been trained before, with the evaluations between them and after them."""
        widths = stage.work.trained or Widths.full(self._world.config)
        model = build(self._world.config, widths)
        if isinstance(stage.request, OnceForAll):
            make_elastic(model, self._world.config)
        set_dropout(model, teaching.dropout)
        if self._checkpointing:
            compute_twice(model)
        counted.watch(model)
        with counted:
            tokens = source_of(self._world, teaching.request).tokens()
            vocabulary = None if tokens is None else CompactVocabulary(model, tokens)
            weights, trained = counted.now, [it for it in model.parameters() if it.requires_grad]
            gradients = sum(parameter.nbytes for parameter in trained)
            counted.watch_gradients(trained)
            optimiser = adamw(trained, optimiser_settings(teaching.config))
            _make_moments(optimiser, trained)
            moments = counted.now - weights
            counted.forget()
            if stage.work.evaluates:
                with nullcontext() if vocabulary is None else vocabulary.whole(1.0):
                    self._evaluate(model, teaching, widths)
                best = [it.clone() for it in weights_of(model).values()] if teaching.patient else []
                weights += sum(it.nbytes for it in best)
            model.train()
            for backward in steps:
                backward(model)
                nn.utils.clip_grad_norm_(trained, teaching.config.max_grad_norm)
                optimiser.step()
                optimiser.zero_grad(set_to_none=True)
                counted.gradients_gone()
            del optimiser, trained
            if vocabulary is not None:
                vocabulary.restore(1.0)
            del vocabulary
            self._evaluate(model, teaching, widths)
        return Footprint(
            weights=weights,
            gradients=gradients,
            optimiser=moments,
            activations=max(0, counted.peak - weights - moments - targets - counted.gradients_at_peak),
            targets=targets,
            block=self._block(widths),
            peak=counted.peak,
        )

    def _evaluate(self, model: nn.Module, teaching: Teaching, widths: Widths) -> None:
        """The largest batch of an evaluation in a training stage, by the largest model that is evaluated there."""
        if isinstance(teaching.request, OnceForAll):
            select(model, self._world.config, widths)
        validation = read_split(self._world.store, teaching.request.data, "validation")
        batch = teaching.batch(over_split(widths, validation).largest)
        run_evaluation(model.eval(), [batch], self._precision)

    def _frozen(self, stage: Planned) -> Footprint:
        [passes] = stage.work.passes
        with without_contents():
            counted = Allocations()
            model = build(self._world.config, passes.widths).requires_grad_(False).eval()
            counted.watch(model)
            weights = counted.now
            self._run(model, stage, counted)
        activations = counted.peak - weights
        return Footprint(weights, 0, 0, activations, 0, self._block(passes.widths), counted.peak)

    def _run(self, model: nn.Module, stage: Planned, counted: Allocations) -> None:
        """The largest batch of a stage that trains nothing."""
        [passes], request = stage.work.passes, stage.request
        data: Artifact = request.data  # type: ignore[attr-defined]
        batches = [batch_of(self._world, data, shape) for shape in passes.heaviest(2)]
        with counted:
            if isinstance(request, Importance):
                gradient_importance(model, layers_of(self._world.config), batches[:1])
            elif isinstance(request, TeacherOutputs):
                named = tokens_named(data, request.top_tokens)
                run_outputs(model, batches, request.positions, named, self._precision)
            else:
                run_evaluation(model, batches, self._precision)

    def _block(self, widths: Widths) -> int:
        """Bytes of the largest of what a sharded model gathers at once: a layer, or what is outside of the layers."""
        with torch.device("meta"):
            model = build(self._world.config, widths)
        layers = [
            sum(model.get_parameter(f"{linear.path}.weight").nbytes for linear in units.linears)
            for units in layers_of(self._world.config)
        ]
        return max(*layers, bytes_of(model) - sum(layers))


def _make_moments(optimiser: torch.optim.Optimizer, trained: Sequence[nn.Parameter]) -> None:
    """AdamW's moments are made by its first step, and live ever after."""
    for parameter in trained:
        parameter.grad = torch.zeros_like(parameter)
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
