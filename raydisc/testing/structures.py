"""The contract of a structure of models, as tests.

Derive from ``StructureContract`` in a test module and define the fixture ``structure``. It has to fit ``config``, which
is a BERT of three layers with four heads and 20 neurons each, unless the class defines another::

    class TestMyStructure(StructureContract):
        @pytest.fixture
        def structure(self):
            return MyStructure(layers=2)

        @pytest.fixture
        def form(self):
            return Form.of("my_structure", layers=2)

The fixture ``form`` is for structures that a student can be given, ``wider`` for a structure that holds this one.
"""

import json
import pickle
from copy import copy, deepcopy
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import AutoConfig

from raydisc.errors import InputError
from raydisc.families.base import Config
from raydisc.forecast.memory import empty_batch, without_contents
from raydisc.models.build import build, load_frozen, load_trainable
from raydisc.models.cost import STEP_FORWARDS, ForwardCost
from raydisc.models.form import Form
from raydisc.models.forward import forward
from raydisc.models.structure import (
    STRUCTURES,
    Size,
    Structure,
    formed,
    full_structure,
    structure_from_json,
    structure_to_json,
)
from raydisc.models.task_heads import model_class, put_weights, weights_of
from raydisc.parallel.shard import blocks_of
from raydisc.stages.artifact import Artifact, Cost, Model
from raydisc.stages.files import read_structure, read_weights, weight_blobs
from raydisc.stages.store import ArtifactStore
from raydisc.tasks.tokenised import Batch
from raydisc.testing.fixtures import TinyModels
from raydisc.testing.models import VOCABULARY, counted, everything, state_of, tiny_batch, tiny_teacher
from raydisc.testing.tolerance import assert_near


class StructureContract(TinyModels):
    """The promises of every structure to models that are built and cut, to forecasts, and to stored students."""

    @pytest.fixture
    def config(self) -> Config:
        """Return a tiny configuration of a teacher, without dropout."""
        shape = {"hidden_size": 24, "intermediate_size": 20, "num_hidden_layers": 3, "num_attention_heads": 4}
        dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        common = {"vocab_size": VOCABULARY, "max_position_embeddings": 32, "num_labels": 3, "initializer_range": 0.3}
        return AutoConfig.for_model("bert", **shape, **dropout, **common)

    @pytest.fixture
    def structure(self) -> Structure:
        """Return a structure that keeps less than the whole of the teacher."""
        raise pytest.UsageError("define the fixture 'structure' in the class that derives from StructureContract")

    @pytest.fixture
    def wider(self, structure: Structure, config: Config) -> Structure:
        """Return a structure of the same kind that keeps at least as much; by default it keeps everything."""
        return type(structure).full(config)

    @pytest.fixture
    def form(self) -> Form | None:
        """Return the form of students of the structure; None if it is not one that a student can be given."""
        return None

    def test_its_kind_is_registered(self, structure: Structure) -> None:
        """The name in JSON leads to the class."""
        assert STRUCTURES.get(structure.kind) is type(structure)

    def test_it_is_a_value(self, structure: Structure, config: Config) -> None:
        """Structures are equal where they keep the same, also after a journey to another process."""
        again = pickle.loads(pickle.dumps(structure))
        assert (again, hash(again)) == (structure, hash(structure))
        assert structure != type(structure).full(config)

    def test_it_goes_through_json(self, structure: Structure, wider: Structure) -> None:
        """It comes back from its JSON values among others, and from those of nothing it is refused."""
        for one in (structure, wider):
            written = json.loads(json.dumps({"scale": 0.5, **structure_to_json(one)}))
            assert structure_from_json(written) == one
        with pytest.raises(ValueError, match="."):
            type(structure).from_json({})

    def test_what_fits_a_teacher(self, structure: Structure, wider: Structure, config: Config) -> None:
        """A teacher with a layer less has not everything that the full structure keeps."""
        assert structure.fits(config)
        assert wider.fits(config)
        smaller = copy(config)
        smaller.num_hidden_layers -= 1
        assert type(structure).full(smaller).fits(smaller)
        assert not type(structure).full(config).fits(smaller)

    def test_a_student_has_it_by_its_form(self, structure: Structure, config: Config, form: Form | None) -> None:
        """The form that a schedule asks for leads to the structure; without a form it is refused."""
        if form is not None:
            assert formed(full_structure(config), form) == structure
            return
        with pytest.raises(InputError, match="not one that a student can be given"):
            formed(full_structure(config), Form.of(structure.kind))

    def test_the_full_structure_is_the_teacher(
        self, structure: Structure, config: Config, teacher: nn.Module, batch: Batch
    ) -> None:
        """It computes the same to the bit, and costs and weighs as much."""
        full, parameters = type(structure).full(config), parameters_of(teacher)
        with torch.no_grad():
            found = everything(load_frozen(config, full, full.cut(state_of(teacher), config)), config, batch)
        assert torch.equal(found.logits, everything(teacher, config, batch).logits)
        assert full.size(config, parameters) == Size(1.0, parameters)
        cost = ForwardCost.of(teacher, config)
        assert cost.flops(full, 2, 3) == cost.flops(full_structure(config), 2, 3)

    def test_what_is_built_takes_what_is_cut(self, structure: Structure, config: Config, teacher: nn.Module) -> None:
        """A model that was built empty has the weights that are cut from the teacher, by name and by shape."""
        wanted = structure.cut(state_of(teacher), config)
        for device in ("cpu", "meta"):
            with torch.device(device):
                built = weights_of(build(config, structure))
            assert {name: it.shape for name, it in built.items()} == {name: wanted[name].shape for name in wanted}
        assert all(wanted[name].is_contiguous() for name in wanted)

    def test_cutting_twice_is_cutting_once(
        self, structure: Structure, wider: Structure, config: Config, teacher: nn.Module
    ) -> None:
        """Structures are nested: one can be cut from a wider one."""
        state = state_of(teacher)
        once, twice = structure.cut(state, config), structure.cut(wider.cut(state, config), config)
        assert once.keys() == twice.keys()
        assert all(torch.equal(once[name], twice[name]) for name in once)

    def test_its_size_is_that_of_its_model(
        self, structure: Structure, wider: Structure, config: Config, teacher: nn.Module
    ) -> None:
        """Parameters are those of the model; a wider structure has as many at least."""
        sizes = [it.size(config, parameters_of(teacher)) for it in (structure, wider)]
        for one, size in zip((structure, wider), sizes, strict=True):
            assert size.parameters == parameters_of(build(config, one))
        assert 0 < sizes[0].measured_scale <= sizes[1].measured_scale <= 1
        assert sizes[0].parameters <= sizes[1].parameters

    def test_flops_are_those_that_torch_counts(self, structure: Structure, wider: Structure, config: Config) -> None:
        """Forward and backward; with eager attention torch's counter sees every product."""
        eager = deepcopy(config)
        eager._attn_implementation = "eager"
        teacher, batch = tiny_teacher(eager), tiny_batch(eager, lengths=(11, 4, 8))
        cost = ForwardCost.of(teacher, eager)
        for one in (structure, wider):
            model = load_trainable(eager, one, one.cut(state_of(teacher), eager))
            assert ForwardCost.of(model, eager) == cost, "the linears of a structure are not the head's"
            flops = cost.flops(one, *batch.shape)
            assert counted(lambda model=model: model(**batch.inputs())) == flops  # type: ignore[misc]
            step = counted(lambda model=model: model(**batch.inputs()).logits.sum().backward())  # type: ignore[misc]
            assert step == STEP_FORWARDS * flops

    def test_it_runs_without_contents(self, structure: Structure, config: Config, batch: Batch) -> None:
        """A forecast runs a step on tensors that have shapes alone."""
        with without_contents():
            model = build(config, structure)
            rows = empty_batch(*batch.shape, batch.token_type_ids is not None, batch.kind)
            found = forward(model, rows, ())
            found.logits.sum().backward()
            assert found.logits.shape[0] == len(rows.labels)

    def test_its_layers_are_sharded(self, structure: Structure, config: Config, batch: Batch) -> None:
        """Workers gather a layer at a time: each that there is runs once in a forward."""
        model, called = build(config, structure), list[nn.Module]()
        blocks = blocks_of(model, config)
        for block in blocks:
            block.register_forward_hook(lambda module, *_: called.append(module))
        with torch.no_grad():
            forward(model, batch, ())
        assert called == blocks != []

    def test_it_goes_through_artifacts(
        self, structure: Structure, config: Config, teacher: nn.Module, batch: Batch, tmp_path: Path
    ) -> None:
        """A stored student has its structure, and computes what it did."""
        store, state = ArtifactStore(tmp_path), structure.cut(state_of(teacher), config)
        artifact = store.commit(Artifact("k" * 64, "distil"), {}, Cost(), weight_blobs(config, structure, 0.6, state))
        weights = read_weights(store, Model(artifact))
        assert (weights.structure, weights.scale) == (structure, 0.6)
        assert read_structure(store, Model(artifact)) == structure
        with torch.no_grad():
            logits = [forward(load_frozen(config, structure, it), batch, ()).logits for it in (state, weights.state)]
        assert torch.equal(*logits)

    def test_a_plain_model_computes_the_same(
        self, structure: Structure, config: Config, teacher: nn.Module, batch: Batch
    ) -> None:
        """If there is a plain model of the structure, transformers alone builds it."""
        plain, state = structure.plain(config), structure.cut(state_of(teacher), config)
        if plain is None:
            return
        alone = model_class(plain).from_config(plain).eval()
        put_weights(alone, state)
        with torch.no_grad():
            expected = forward(load_frozen(config, structure, state), batch, ()).logits
            assert_near(forward(alone, batch, ()).logits, expected)


def parameters_of(model: nn.Module) -> int:
    """Return the number of parameters of a model, each once."""
    return sum(parameter.numel() for parameter in model.parameters())
