"""The sections of an experiment file, with defaults, units and limits.

Every section is a frozen pydantic model that refuses unknown keys. The descriptions of the fields are the reference of
the experiment file: the documentation and the JSON Schema are generated from them.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    JsonValue,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    Tag,
    field_validator,
    model_serializer,
    model_validator,
)

from raydisc.config.losses import LOSSES
from raydisc.config.registered import NameIn
from raydisc.config.yaml_file import expecting, refuse_unknown_keys

Scale = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Lam = Annotated[float, Field(ge=0)]
Dropout = Annotated[float, Field(ge=0, lt=1)]
Allocation = Literal["global", "uniform"]
KeptType = Literal["float16", "bfloat16"]


def listed(names: Sequence[str]) -> str:
    """Return names in quotes for a message, such as ``'a', 'b' and 'c'``, or ``no such key``."""
    quoted = [f"'{name}'" for name in names]
    return " and ".join(filter(None, [", ".join(quoted[:-1]), *quoted[-1:]])) or "no such key"


class Section(BaseModel):
    """A part of the experiment file: frozen, strictly typed, without unknown keys."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, data: Any) -> Any:
        return refuse_unknown_keys(data, cls.model_fields)


class ReviewsConfig(Section):
    """The built-in task: generated reviews whose label is computed from their meaning (no download)."""

    train: Count = 12000
    """Number of training rows."""
    validation: Count = 1000
    """Number of validation rows."""
    test: Count = 2000
    """Number of test rows."""
    clauses: Annotated[int, Field(ge=1, le=3)] = 3
    """Largest number of clauses in one review, from 1 to 3; more clauses are more difficult."""
    seed: Seed = 0
    """Seed of the generator of the reviews."""


class TaskConfig(Section):
    """The task: local files (``train``, ``validation``, ``test``), a GLUE preset (``glue``) or ``reviews``."""

    train: str | None = None
    """File with the training rows: Parquet, CSV or JSONL. A relative path starts at the current folder."""
    validation: str | None = None
    """File with the validation rows; every choice is made on them (early stopping, assistant, selected path)."""
    test: str | None = None
    """File with the test rows, read once for each finished student. By default the validation file becomes the test set
    and a fixed tenth of the training rows (chosen by hash) the validation set."""
    glue: str | None = None
    """Name of a GLUE task, which is loaded from the hub: cola, sst2, mrpc, stsb, qqp, mnli, qnli, rte or wnli."""
    reviews: ReviewsConfig | None = None
    """The built-in task of generated reviews; ``{}`` uses its defaults."""
    name: str | None = None
    """Name of a task that an installed package adds (entry points ``raydisc.tasks``) or that Python code registers."""
    options: dict[str, JsonValue] = {}
    """Named tasks only: the options of the task."""
    text: Annotated[list[str], Field(strict=False, max_length=2)] = []
    """Files only: the text column, or the two columns of a sentence pair; for tags, a column of lists of words."""
    label: str = "label"
    """Files only: the column of labels: classes (numbers or names), numbers for a regression, or lists of tags."""
    metric: str | None = None
    """The metric, which also determines the kind of task. Classification: accuracy, f1, matthews or accuracy_f1.
    Regression: pearson, spearman or pearson_spearman. A tag for each word: token_accuracy, or span_f1 for whole spans
    of IOB2 tags. Language modelling of texts without labels: token_likelihood, which is 1 / perplexity. Required for
    files; ``glue`` and ``reviews`` have their own."""
    classes: Annotated[list[str], Field(strict=False, min_length=2)] | None = None
    """Files only: the class names in order. By default the sorted labels of the training rows."""
    max_length: Annotated[int, Field(ge=4)] = 128
    """Largest number of tokens of an input; longer ones are cut, and words that are cut off count as wrongly tagged.
    The texts of a language task are joined and cut into rows of this length."""
    train_rows: Count | None = None
    """Use only this number of training rows (a fixed choice by hash)."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        given = [key for key in ("train", "glue", "reviews", "name") if getattr(self, key) is not None]
        if len(given) != 1:
            raise ValueError(f"needs exactly one of 'train', 'glue', 'reviews' and 'name', but has {listed(given)}")
        if self.options and self.name is None:
            raise ValueError(f"'options' belongs to a task with a 'name', but the task is '{given[0]}'")
        if self.train is None:
            for key in ("validation", "test", "text", "label", "classes"):
                if getattr(self, key) != type(self).model_fields[key].default:
                    raise ValueError(f"'{key}' belongs to local files ('train'), but the task is '{given[0]}'")
            return self
        missing = [key for key in ("validation", "text", "metric") if not getattr(self, key)]
        if missing:
            raise ValueError(f"needs {listed(missing)} beside 'train'")
        return self

    @model_serializer(mode="wrap")
    def _without_names_of_others(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave the words for named tasks out of other tasks, whose fingerprints are older than these words."""
        written: dict[str, Any] = handler(self)
        return {key: value for key, value in written.items() if self.name is not None or key not in ("name", "options")}


class TrainingConfig(Section):
    """Settings shared by all training stages: AdamW with a linear warm-up followed by a linear decay."""

    epochs: Annotated[float, Field(gt=0)] = 3.0
    """Number of passes over the training rows; fractions are allowed."""
    lr: Annotated[float, Field(gt=0)] = 1e-4
    """Peak learning rate."""
    batch_size: Count = 32
    """Number of rows in one optimiser step."""
    warmup: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Share of the steps during which the learning rate rises to its peak."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Weight decay of matrices; biases and norms are not decayed."""
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    """Largest norm of the gradient; larger gradients are scaled down to it."""


class FineTuneConfig(TrainingConfig):
    """Fine-tuning of the teacher on the task, before anything is compressed."""

    lr: Annotated[float, Field(gt=0)] = 5e-5
    """Peak learning rate."""
    beta2: Annotated[float, Field(gt=0, lt=1)] = 0.999
    """Second beta of AdamW; a smaller value suits a short training from scratch."""
    curriculum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the steps, at the start, that use only the shorter half of the rows."""


class TeacherConfig(Section):
    """The model to compress: a checkpoint (``model``) or a model trained from scratch (``architecture``)."""

    model: str | None = None
    """A Hugging Face checkpoint with safetensors weights: a folder, a name on the hub, or ``package:NAME/FOLDER`` for a
    folder inside an installed Python package."""
    architecture: dict[str, bool | int | float | str] | None = None
    """A Hugging Face configuration with its ``model_type``, for a teacher that is trained from scratch."""
    tokenizer: str | None = None
    """A tokenizer other than that of the checkpoint: a folder, a name on the hub or ``package:NAME/FOLDER``."""
    finetune: FineTuneConfig | None = None
    """Fine-tune the model inside the run (``{}`` uses the defaults); without it the model must be fine-tuned
    already."""
    seed: Seed = 0
    """Seed of the fine-tuning, where there is one teacher."""
    seeds: Annotated[list[Seed], Field(strict=False, min_length=1)] | None = None
    """Seeds of the fine-tuning of several teachers, in place of ``seed``: every schedule runs by each teacher with each
    of the experiment's ``seeds``. Only with several teachers is a verdict more than one on a single teacher."""
    trust_remote_code: bool = False
    """Allow a checkpoint from the hub to run its own code."""

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        given = [key for key in ("model", "architecture") if getattr(self, key) is not None]
        if len(given) != 1:
            raise ValueError(f"needs exactly one of 'model' and 'architecture', but has {listed(given)}")
        if self.architecture is not None:
            if not isinstance(self.architecture.get("model_type"), str):
                raise ValueError("'architecture' needs a 'model_type' such as bert")
            if self.finetune is None:
                raise ValueError("'architecture' has no weights, so it needs 'finetune' ({} takes the defaults)")
        return self

    @model_validator(mode="after")
    def _one_word_for_seeds(self) -> Self:
        if self.seeds is None:
            return self
        if self.seed:
            raise ValueError(f"'seed' is {self.seed} and 'seeds' is {self.seeds}; give one of them")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"'seeds' names a seed twice: {self.seeds}")
        if len(self.seeds) > 1 and self.finetune is None:
            raise ValueError(
                "'seeds' makes several teachers by fine-tuning, so it needs 'finetune' ({} takes the defaults)"
            )
        return self

    @property
    def all_seeds(self) -> tuple[int, ...]:
        """The seed of every teacher."""
        return (self.seed,) if self.seeds is None else tuple(self.seeds)


class GridConfig(Section):
    """The candidates: their scales, and the importance that ranks the units of the teacher."""

    scales: Annotated[list[Scale], Field(strict=False, min_length=1)] = [
        0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05,
    ]  # fmt: skip
    """Scales in (0, 1] in descending order. Those above the scale of the student are its possible assistants."""
    allocation: Allocation = "global"
    """Units that a scale keeps. global: the most important of the whole model. uniform: the same number in every layer,
    the most important of each; such a student of a decoder is a plain Hugging Face model."""
    importance: Literal["gradient", "magnitude", "random"] = "gradient"
    """Ranking of the units; magnitude and random are baselines that show whether importance matters."""
    importance_rows: Count = 1024
    """Number of training rows from which gradient importance is computed."""

    _reordered: str | None = PrivateAttr(None)

    @model_validator(mode="after")
    def _descending(self) -> Self:
        ordered = sorted(set(self.scales), reverse=True)
        if ordered != self.scales:
            listed_scales = ", ".join(f"{scale:g}" for scale in ordered)
            self._reordered = f"grid.scales was not in descending order without duplicates; it is now {listed_scales}"
            # The model is frozen for its users; sorting its own input is part of building it.
            self.__dict__["scales"] = ordered
        return self

    @property
    def reordered(self) -> str | None:
        """A sentence that says how the given scales were reordered, or None if they were in order."""
        return self._reordered


class StudentConfig(Section):
    """The size of the student, as ``scale`` or as ``parameters``; a list asks for one student of each size."""

    scale: Annotated[list[Scale], Field(strict=False, min_length=1)] | None = None
    """Share of the teacher's units that the student keeps, in (0, 1]. A single number is read as a list of one."""
    parameters: Annotated[list[Annotated[float, Field(ge=1)]], Field(strict=False, min_length=1)] | None = None
    """Number of parameters of the whole student, embeddings included. A single number is read as a list of one."""

    @field_validator("scale", "parameters", mode="before")
    @classmethod
    def _as_list(cls, value: Any) -> Any:
        return value if value is None or isinstance(value, list | tuple) else [value]

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        given = [key for key in ("scale", "parameters") if getattr(self, key) is not None]
        if len(given) != 1:
            raise ValueError(f"needs exactly one of 'scale' and 'parameters', but has {listed(given)}")
        sizes = self.scale or self.parameters or []
        if len(set(sizes)) < len(sizes):
            raise ValueError(f"names a size twice: {sizes}")
        return self


class SandwichConfig(Section):
    """The candidates that one step of the supernet trains besides the smallest, which has the scale of the student."""

    largest: bool = False
    """Train the largest candidate in every step too (Yu and Huang 2019); it is nearly the teacher."""
    middle: Annotated[int, Field(ge=0)] = 1
    """Number of other candidates that are drawn in each step."""
    draw: Literal["uniform", "cost"] = "cost"
    """Probability of being drawn: the same for all candidates, or inversely proportional to their FLOPs."""
    slices: bool = True
    """Divide the batch among the candidates of a step instead of giving the whole batch to each."""


class OnceForAllConfig(TrainingConfig):
    """Training of the supernet, which holds all candidates in one set of weights."""

    sandwich: Annotated[
        Annotated[Literal["all"], expecting("'all' or a section with 'middle' and the like"), Tag("word")]
        | Annotated[SandwichConfig, Tag("section")],
        Discriminator(lambda value: "section" if isinstance(value, dict | SandwichConfig) else "word"),
    ] = SandwichConfig()
    """The candidates of one step: ``all`` of the grid, or a few (a section)."""
    epochs: Annotated[float, Field(gt=0)] = 2.25
    """Number of passes over the training rows; fewer than in ``distillation`` leave more of the cost to the student."""
    candidates: Literal["smaller_half", "all"] = "smaller_half"
    """Possible assistants that are trained: the smaller half of those above the student's scale, or all. All are
    trained if a schedule chooses several assistants."""
    choose_at: Annotated[float, Field(gt=0, le=1)] = 0.4
    """Share of the steps after which the assistant is chosen; from then on only the chosen candidate is trained. All
    are trained to the end with 1, and if a schedule chooses several assistants."""
    evaluations: Count = 1
    """Number of evaluations of the candidates at even intervals; the last one decides the choice."""
    evaluation_rows: Count | None = 256
    """Number of validation rows in evaluations before the end of the stage (a fixed choice); null: all rows."""
    keep: Literal["last", "best"] = "last"
    """Weights that are kept: those of the last step, or those of the evaluation with the best tradeoff."""
    step_loss: Literal["sum", "half_mean"] = "sum"
    """Loss of a step: the sum of the losses of its candidates, or half their mean, as in the code of the MiniDisc
    paper. AdamW ignores the difference; clipping by ``max_grad_norm`` does not."""
    patience: Count | None = None
    """Stop after this number of evaluations without a better mean over the candidates; null: never."""
    dropout: Dropout | None = 0.0
    """Dropout probability while the supernet is trained; null: as in the configuration of the teacher."""

    @model_validator(mode="after")
    def _one_way_to_end(self) -> Self:
        if self.choose_at < 1 and self.patience is not None:
            raise ValueError(
                "'patience' compares the mean over all candidates, which 'choose_at' ends; set choose_at: 1 beside it"
            )
        if self.keep == "best" and (self.choose_at < 1 or self.patience is not None):
            raise ValueError("keep: best compares tradeoffs to the end; set choose_at: 1 and patience: null beside it")
        return self


class DistillationConfig(TrainingConfig):
    """Distillation of an assistant or a student from the model above it."""

    initialisation: Literal["supernet", "teacher"] = "supernet"
    """The model from which the initial weights of the student are cut, in schedules that have a supernet."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """Temperature that divides the logits of both models; the losses are multiplied by its square."""
    losses: Annotated[dict[Annotated[str, NameIn(LOSSES)], Annotated[float, Field(ge=0)]], Field(min_length=1)] = {
        "hidden_mse": 1.0, "soft_cross_entropy": 1.0,
    }  # fmt: skip
    """Weight of each loss. In regression logit_mse takes the place of the losses over classes."""
    layer_mapping: Annotated[
        Literal["uniform", "last", "all"] | list[Annotated[list[Seed], Field(min_length=2, max_length=2)]],
        expecting("'uniform', 'last', 'all' or a list of [student layer, teacher layer] pairs"),
    ] = "uniform"
    """The hidden states that are matched. uniform: every (L/6)-th of L layers. last: the last layer. all: every layer.
    Or a list of [student layer, teacher layer] pairs."""
    top_tokens: Count = 64
    """Language tasks only: number of most likely tokens whose probabilities are kept; all others count as one."""
    patience: Count | None = None
    """Stop after this number of evaluations without a better validation metric; null: never."""
    dropout: Dropout | None = 0.0
    """Dropout probability while a model is distilled; null: as in the configuration of the teacher."""

    @model_validator(mode="after")
    def _some_loss(self) -> Self:
        if not any(self.losses.values()):
            raise ValueError("every weight in 'losses' is 0, so nothing would be learned")
        return self


class TeacherOutputsConfig(Section):
    """The source of the outputs of a teacher or an assistant: computed once and kept, or computed in every step."""

    source: Literal["auto", "memory", "disk", "online"] = "auto"
    """memory: kept in the storage and, once for each machine, in shared memory. disk: read from the storage in every
    step. online: the model is run in every step. auto: the first of memory and disk whose budget holds the outputs of
    this task, else online."""
    budget_gib: Annotated[float, Field(ge=0)] = 4.0
    """Largest amount of shared memory for the outputs of one model, in GiB."""
    disk_budget_gib: Annotated[float, Field(ge=0)] = 32.0
    """Largest amount of storage for the outputs of one model that are not kept in memory, in GiB."""
    dtype: KeptType = "float16"
    """Data type of the kept hidden states; values that float16 cannot represent are kept in bfloat16."""
