"""The contract of the adapter of a family of models, as tests.

Derive from ``FamilyContract`` in a test module and define the fixture ``config``::

    class TestMyFamily(FamilyContract):
        @pytest.fixture
        def config(self):
            return MyConfig(hidden_size=24, num_hidden_layers=3, num_attention_heads=4, initializer_range=0.3, ...)

Wide random weights (``initializer_range``) let a wrong unit show in the outputs. Shape letters: B rows and S tokens of
a batch, D hidden size.
"""

import itertools
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from raydisc.families.base import Config, Family
from raydisc.families.registry import FAMILIES, layers_of
from raydisc.families.units import PrunableLinear
from raydisc.models.build import build, config_from_dict, load_frozen, load_trainable
from raydisc.models.checkpoint_state import CheckpointState
from raydisc.models.cost import STEP_FORWARDS, ForwardCost
from raydisc.models.forward import Outputs, forward
from raydisc.models.task_heads import TokenHead, head_of, model_class, put_weights, weights_of
from raydisc.models.teacher_checkpoint import check_head, check_units, load_config, load_teacher, locate
from raydisc.models.widths import Widths, prunable_parameters
from raydisc.parallel.shard import blocks_of
from raydisc.supernet.candidates import candidate, reordered
from raydisc.supernet.elastic import make_elastic, select
from raydisc.tasks.kinds import task_kind
from raydisc.tasks.tokenised import Batch
from raydisc.tensors.lazy_state import State
from raydisc.testing.fixtures import TinyModels
from raydisc.testing.models import (
    counted,
    everything,
    gradients_of,
    identity_order,
    importance_with_empty_layers,
    layer_path,
    sorted_state,
    state_of,
    tiny_batch,
    tiny_split,
    tiny_teacher,
)
from raydisc.testing.tolerance import assert_all_near, assert_near

SCALES = (1.0, 0.8, 0.5, 0.3, 0.1, 0.01)


class FamilyContract(TinyModels):
    """The promises of every adapter to the supernet, to the students that are cut from it, and to forecasts."""

    @pytest.fixture
    def config(self) -> Config:
        """Return a tiny configuration: two layers at least, without dropout, with at least two heads in each."""
        raise pytest.UsageError("define the fixture 'config' in the class that derives from FamilyContract")

    @pytest.fixture
    def family(self, config: Config) -> Family:
        """Return the adapter that is registered for the configuration."""
        return FAMILIES.get(config.model_type)

    def test_it_is_found_by_the_model_type(self, config: Config, family: Family) -> None:
        """Configurations lead to the adapter, and so do their dictionaries in other processes."""
        assert family.model_type == config.model_type
        again = config_from_dict(config.to_dict())
        assert again.to_dict() == config.to_dict()
        assert model_class(again) is model_class(config)
        assert Widths.full(again) == Widths.full(config)

    def test_units_are_those_of_the_modules(self, config: Config, teacher: nn.Module) -> None:
        """Every prunable linear is a linear whose rows or columns are the units."""
        assert len(layers_of(config)) == config.num_hidden_layers >= 2
        for units in layers_of(config):
            for kind in (units.heads, units.neurons):
                assert {prunable.axis for prunable in kind.outputs} == {0}
                assert (kind.input.axis, kind.input.blocks) == (1, 1)
                for prunable in kind.linears:
                    linear = teacher.get_submodule(prunable.path)
                    assert isinstance(linear, nn.Linear), f"{prunable.path} must be a torch.nn.Linear"
                    shape = (prunable.kept(kind.count), units.hidden_size)
                    assert linear.weight.shape == (shape if prunable.axis == 0 else shape[::-1])
                    assert (linear.bias is not None) == prunable.has_bias or prunable.axis == 1

    def test_every_linear_of_every_layer_has_units(self, config: Config, teacher: nn.Module) -> None:
        """No linear of a layer is forgotten."""
        layers = tuple(f"{layer_path(units)}." for units in layers_of(config))
        modules = teacher.named_modules()
        held = {name for name, module in modules if isinstance(module, nn.Linear) and name.startswith(layers)}
        assert {linear.path for units in layers_of(config) for linear in units.linears} == held

    def test_parameters_of_units_are_counted(self, config: Config, teacher: nn.Module) -> None:
        """The parameters of all units are those of their linears."""
        state, held = state_of(teacher), 0
        for linear in itertools.chain.from_iterable(units.linears for units in layers_of(config)):
            held += state[f"{linear.path}.weight"].numel()
            held += state[f"{linear.path}.bias"].numel() if linear.axis == 0 and linear.has_bias else 0
        assert prunable_parameters(config, Widths.full(config)) == held

    @pytest.mark.parametrize("kind", ["heads", "neurons"])
    def test_a_unit_speaks_through_its_columns_alone(self, config: Config, batch: Batch, kind: str) -> None:
        """Zeroing the output of a unit equals zeroing the columns that read it, so that rows and columns match."""
        units = getattr(layers_of(config)[1], kind)
        value, reader, unit = units.outputs[-1], units.input, units.count // 2

        def rows_of(linear: PrunableLinear) -> slice:
            """Return its rows in the last block: of a fused projection the value, of a fused gate the other factor."""
            start = (linear.blocks - 1) * linear.kept(units.count) // linear.blocks + unit * linear.size
            return slice(start, start + linear.size)

        whole, silenced, unread = tiny_teacher(config), tiny_teacher(config), tiny_teacher(config)
        with torch.no_grad():
            # A head's output is made of values alone, and activations of feed-forwards are 0 at 0.
            silenced.get_parameter(f"{value.path}.weight")[rows_of(value)] = 0
            if value.has_bias:
                silenced.get_parameter(f"{value.path}.bias")[rows_of(value)] = 0
            unread.get_parameter(f"{reader.path}.weight")[:, rows_of(reader)] = 0
            outputs = [everything(model, config, batch) for model in (whole, silenced, unread)]
        assert_near_outputs(outputs[1], outputs[2])
        assert float((outputs[0].logits - outputs[2].logits).abs().max()) > 1e-3

    def test_scale_one_is_the_teacher(self, config: Config, teacher: nn.Module, batch: Batch) -> None:
        """Sorting the units changes the order of a sum and nothing else."""
        importance = importance_with_empty_layers(config)
        whole = candidate(importance, 1.0)
        assert whole.structure == Widths.full(config)
        supernet = supernet_of(config, sorted_state(teacher, config, importance), whole.structure)
        select(supernet, config, whole.structure)
        with torch.no_grad():
            expected = everything(teacher, config, batch)
            assert_near_outputs(everything(supernet, config, batch), expected)
            unsorted = reordered(state_of(teacher), layers_of(config), identity_order(config))
            same = everything(load_frozen(config, whole.structure, unsorted), config, batch)
        assert torch.equal(same.logits, expected.logits)
        assert float(expected.logits.std()) > 0.1

    @pytest.mark.parametrize("scale", SCALES)
    def test_slice_equals_extraction(self, config: Config, teacher: nn.Module, batch: Batch, scale: float) -> None:
        """Outputs and gradients of every candidate, from the whole teacher and from a narrower supernet."""
        importance = importance_with_empty_layers(config)
        state = sorted_state(teacher, config, importance)
        chosen = candidate(importance, scale).structure
        dense = load_trainable(config, chosen, chosen.cut(state, config)).eval()
        expected = everything(dense, config, batch)
        scalar(expected).backward()
        wanted, ones = gradients_of(dense), (1,) * len(layers_of(config))
        for largest in {1.0, max(scale, 0.6)}:
            supernet = supernet_of(config, state, candidate(importance, largest).structure)
            select(supernet, config, Widths(ones, ones))  # the candidate that was active before leaves no trace
            select(supernet, config, chosen)
            found = everything(supernet, config, batch)
            assert_near_outputs(found, expected)
            scalar(found).backward()
            gradients = gradients_of(supernet)
            assert_all_near(chosen.cut(gradients, config), wanted)
            inside, everywhere = (sum(it.square().sum() for it in grads.values()) for grads in (wanted, gradients))
            torch.testing.assert_close(everywhere, inside, rtol=1e-4, atol=0)  # nothing outside the slice

    def test_candidates_have_layers_without_heads_or_neurons(self, config: Config) -> None:
        """The other tests meet layers that keep only their residual path and norm."""
        importance = importance_with_empty_layers(config)
        assert candidate(importance, 0.5).structure.heads[1] == 0
        assert candidate(importance, 0.5).structure.neurons[0] == 0
        assert sum(candidate(importance, 0.01).structure.heads) == 1

    @pytest.mark.parametrize("scale", [0.8, 0.3])
    def test_extraction_equals_masking(self, config: Config, teacher: nn.Module, batch: Batch, scale: float) -> None:
        """The student computes what the unsorted teacher does with the columns of pruned units set to zero."""
        importance = importance_with_empty_layers(config)
        chosen = candidate(importance, scale).structure
        dense = load_frozen(config, chosen, chosen.cut(sorted_state(teacher, config, importance), config))
        for kind, kept in (("heads", sum(chosen.heads)), ("neurons", sum(chosen.neurons))):
            scores = getattr(importance, kind)
            threshold = torch.cat(scores).sort(descending=True).values[kept - 1]
            for units, score in zip(layers_of(config), scores, strict=True):
                reader = getattr(units, kind).input
                pruned = (score < threshold).repeat_interleave(reader.size)
                with torch.no_grad():
                    teacher.get_parameter(f"{reader.path}.weight")[:, pruned] = 0
        with torch.no_grad():
            assert_near_outputs(everything(dense, config, batch), everything(teacher, config, batch))

    def test_cutting_twice_is_cutting_once(self, config: Config, teacher: nn.Module) -> None:
        """Candidates are nested: a narrow one can be cut from a wider one."""
        importance = importance_with_empty_layers(config)
        state = sorted_state(teacher, config, importance)
        wide, narrow = (candidate(importance, scale).structure for scale in (0.6, 0.2))
        assert wide.contains(narrow)
        once, twice = narrow.cut(state, config), narrow.cut(wide.cut(state, config), config)
        assert once.keys() == twice.keys() == state.keys()
        assert all(torch.equal(once[name], twice[name]) and once[name].is_contiguous() for name in once)

    def test_the_supernet_keeps_parameters_and_names(self, config: Config, teacher: nn.Module) -> None:
        """Making linears elastic replaces no parameter, so that optimisers and checkpoints stay valid."""
        before = {name: id(parameter) for name, parameter in teacher.named_parameters()}
        make_elastic(teacher, config)
        assert {name: id(parameter) for name, parameter in teacher.named_parameters()} == before

    @pytest.mark.parametrize("scale", [1.0, 0.5, 0.1])
    def test_flops_are_those_that_torch_counts(self, config: Config, scale: float) -> None:
        """Forward, backward and slice; with eager attention torch's counter sees every product."""
        eager = deepcopy(config)
        eager._attn_implementation = "eager"
        batch, importance = tiny_batch(eager, lengths=(11, 4, 8)), importance_with_empty_layers(eager)
        chosen, state = candidate(importance, scale).structure, sorted_state(tiny_teacher(eager), eager, importance)
        model = load_trainable(eager, chosen, chosen.cut(state, eager))
        flops = ForwardCost.of(model, eager).flops(chosen, *batch.input_ids.shape)
        assert counted(lambda: model(**batch.inputs())) == flops
        assert counted(lambda: model(**batch.inputs()).logits.sum().backward()) == STEP_FORWARDS * flops
        supernet = supernet_of(eager, state, Widths.full(eager))
        select(supernet, eager, chosen)
        assert counted(lambda: supernet(**batch.inputs())) == flops

    @pytest.mark.parametrize("lengths", [(9, 3, 6, 1), (5, 5)])
    def test_outputs_and_gradients_are_those_of_transformers(
        self, config: Config, teacher: nn.Module, lengths: tuple[int, ...]
    ) -> None:
        """Masks that are made outside the model change no number."""
        batch, plain, last = tiny_batch(config, lengths), tiny_teacher(config), config.num_hidden_layers
        found, result = forward(teacher, batch, (0, last)), plain(**batch.inputs(), output_hidden_states=True)
        real, logits = batch.attention_mask.bool(), batch.kind.labelled_logits(result.logits, batch)
        assert_near(found.logits, logits)
        for mine, position in zip(found.hidden, (0, last), strict=True):
            assert_near(mine[real], result.hidden_states[position][real])
        for answers, hidden in ((found.logits, found.hidden[1]), (logits, result.hidden_states[last])):
            (answers.sum() + hidden[real].square().sum()).backward()
        assert_all_near(gradients_of(teacher), gradients_of(plain))

    def test_padding_changes_nothing(self, config: Config, teacher: nn.Module) -> None:
        """A row alone, unpadded, has the outputs that it has beside a longer one."""
        tags, last, pad = isinstance(head_of(config), TokenHead), config.num_hidden_layers, config.pad_token_id or 0
        split = tiny_split((3, 11, 7), config.num_labels, tags=tags, vocabulary=config.vocab_size)
        with torch.no_grad():
            together = forward(teacher, split.batch(np.arange(3), pad), (0, last))
            rows = [forward(teacher, split.batch(np.array([row]), pad), (0, last)) for row in range(3)]
        assert_near(together.logits, torch.cat([alone.logits for alone in rows]))
        for row, (alone, length) in enumerate(zip(rows, split.lengths, strict=True)):
            for padded, unpadded in zip(together.hidden, alone.hidden, strict=True):
                assert_near(padded[row, :length], unpadded[0])

    def test_the_longest_row_can_be_read(self, config: Config, family: Family, teacher: nn.Module) -> None:
        """A row of as many tokens as there are positions has finite outputs."""
        longest = family.positions(config)
        assert longest is None or longest > 0
        with torch.no_grad():
            found = forward(teacher, tiny_batch(config, lengths=(longest or 100,)), ())
        assert bool(found.logits.isfinite().all())

    def test_a_teacher_comes_back_from_its_checkpoint(
        self, config: Config, teacher: nn.Module, batch: Batch, tmp_path: Path
    ) -> None:
        """Transformers and the reader of single tensors load the same weights, and checks accept the folder."""
        saved(teacher, tmp_path)
        check_units(tmp_path, config)
        check_head(tmp_path, load_config(tmp_path))
        pad = config.pad_token_id or 0
        loaded = load_teacher(locate(str(tmp_path)), task_kind(kind_of(config)), config.num_labels, pad, True).eval()
        with torch.no_grad():
            assert_near(loaded(**batch.inputs()).logits, teacher(**batch.inputs()).logits)
        state = CheckpointState(tmp_path, config, finetuned=True)
        wanted = weights_of(teacher)
        assert state.keys() == wanted.keys()
        assert all(torch.equal(state[name], tensor) for name, tensor in wanted.items())

    def test_a_checkpoint_without_a_head_has_the_units(self, config: Config, tmp_path: Path) -> None:
        """The names of weights in a checkpoint of the encoder or decoder alone are known."""
        teacher: Any = tiny_teacher(deepcopy(config))  # to save a model changes its configuration
        saved(teacher.base_model, tmp_path)
        check_units(tmp_path, config)
        state, wanted = CheckpointState(tmp_path, config, finetuned=False), weights_of(teacher)
        assert state.keys() == wanted.keys()
        for linear in itertools.chain.from_iterable(units.linears for units in layers_of(config)):
            name = f"{linear.path}.weight"
            assert torch.equal(state[name], wanted[name])

    def test_a_plain_model_computes_what_the_student_does(
        self, config: Config, family: Family, teacher: nn.Module, batch: Batch
    ) -> None:
        """If the family has plain models of fewer units, transformers alone builds them."""
        heads, neurons = (min(kept) for kept in (Widths.full(config).heads, Widths.full(config).neurons))
        layers = len(layers_of(config))
        widths = Widths((heads // 2,) * layers, (neurons // 2,) * layers)
        narrow = family.plain(config, heads // 2, neurons // 2)
        if narrow is None:
            return
        state = widths.cut(state_of(teacher), config)
        plain = model_class(narrow).from_config(narrow).eval()
        put_weights(plain, state)
        with torch.no_grad():
            expected = everything(load_frozen(config, widths, state), config, batch)
            assert_near_outputs(everything(plain, config, batch), expected)

    def test_each_layer_is_sharded_by_itself(self, config: Config, teacher: nn.Module, batch: Batch) -> None:
        """All linears of a layer lie in one module that is called, so that workers gather a layer at a time."""
        blocks, called = blocks_of(teacher, config), list[nn.Module]()
        for block in blocks:
            block.register_forward_hook(lambda module, *_: called.append(module))
        with torch.no_grad():
            forward(teacher, batch, ())
        paths = {id(module): name for name, module in teacher.named_modules()}
        for units in layers_of(config):
            linears = [teacher.get_submodule(linear.path) for linear in units.linears]
            [holder] = [block for block in blocks if linears[0] in block.modules()]
            assert all(linear in holder.modules() for linear in linears), paths[id(holder)]
            assert called.count(holder) == 1, paths[id(holder)]

    def test_narrow_models_are_built_empty(self, config: Config) -> None:
        """A model of any widths can be built before its weights are read."""
        full = Widths.full(config)
        widths = Widths((0, *full.heads[1:]), (*full.neurons[:-1], 1))
        model, wanted = weights_of(build(config, widths)), widths.cut(state_of(tiny_teacher(config)), config)
        assert {name: it.shape for name, it in model.items()} == {name: wanted[name].shape for name in model}


def supernet_of(config: Config, state: State, widths: Widths) -> nn.Module:
    """Return an elastic model of some widths, in evaluation mode."""
    model = load_trainable(config, widths, widths.cut(state, config))
    make_elastic(model, config)
    return model.eval()


def assert_near_outputs(found: Outputs, expected: Outputs) -> None:
    """Check that logits and hidden states are near others, each by its norm."""
    assert_near(found.logits, expected.logits)
    for mine, theirs in zip(found.hidden, expected.hidden, strict=True):
        assert_near(mine, theirs)


def scalar(outputs: Outputs) -> torch.Tensor:
    """Return a number that depends on all outputs."""
    total = outputs.logits.square().sum()
    for hidden in outputs.hidden:
        total = total + hidden.square().mean()
    return total


def kind_of(config: Config) -> str:
    """Return the kind of task that a tiny classifier is for."""
    return "tokens" if isinstance(head_of(config), TokenHead) else "classification"


def saved(model: Any, folder: Path) -> None:
    """Save a Hugging Face model in a folder."""
    model.save_pretrained(folder)
