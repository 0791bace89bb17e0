"""The embedded task: reviews made from a small grammar, labelled by what they mean.

A review is one to three clauses, "the ASPECT was ADJECTIVE" with an optional negation and an optional degree
before the adjective, which may stand under "i said" (changes nothing) or "nobody thinks" (turns the opinion
round), joined by `and`, `but` and `although`. Its value is computed as `clause_value` and `review_value` say, and
`review_label` makes it negative, mixed or positive. Some aspects are not the house's doing and count nothing.
Values near the border between two labels do not occur.

For a metric that judges tags its words are tagged instead: the opinion of each clause, "NEGATION DEGREE ADJECTIVE", is
a span of the type that the clause's value has (`clause_tags`).

Which split a sentence can be in is decided by its hash, so no sentence is in two of them, whatever the seed.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from raydisc.tasks.kinds import task_kind
from raydisc.tasks.metrics import metric
from raydisc.tasks.source import TaskSource
from raydisc.tasks.tags import OUTSIDE

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from raydisc.config.sections import TaskConfig

ASPECTS = {
    **dict.fromkeys(("food", "service", "staff", "room", "music", "price", "view"), 1.0),
    **dict.fromkeys(("weather", "traffic", "crowd"), 0.0),
}
ADJECTIVES = {
    **dict.fromkeys(("great", "superb", "wonderful"), 2.0),
    **dict.fromkeys(("good", "nice", "pleasant"), 1.0),
    **dict.fromkeys(("bad", "poor", "dull"), -1.0),
    **dict.fromkeys(("awful", "terrible", "horrible"), -2.0),
}
NEGATIONS = {"": 1.0, "not": -1.0, "never": -1.0}
DEGREES = {"": 1.0, "very": 2.0, "really": 2.0, "slightly": 0.5, "somewhat": 0.5}
ATTITUDES = {"": 1.0, "i said": 1.0, "nobody thinks": -1.0}
CLAUSE_WEIGHTS = (4, 3, 2)  # how often 1, 2 and 3 clauses are drawn
ATTITUDE_WEIGHTS = (6, 1, 1)  # how often each attitude, negation and degree is drawn
NEGATION_WEIGHTS = (4, 1, 1)
DEGREE_WEIGHTS = (6, 1, 1, 1, 1)
CONNECTIVES = ("and", "but", "although")
CLASSES = ("negative", "mixed", "positive")
OPINIONS = ("negative", "neutral", "positive")  # types of spans
TAGS = (OUTSIDE, *(f"{mark}-{opinion}" for opinion in OPINIONS for mark in "BI"))
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
MIXED, CLEAR = 0.25, 1.0  # largest value of a mixed review and smallest of a clear one; none lies between


@dataclass(frozen=True)
class Clause:
    """One opinion: each part is a key of a table above, "" where it is left out."""

    attitude: str
    aspect: str
    negation: str
    degree: str
    adjective: str

    def __str__(self) -> str:
        """The clause in words."""
        parts = (self.attitude, "the", self.aspect, "was", self.negation, self.degree, self.adjective)
        return " ".join(part for part in parts if part)


def clause_value(clause: Clause) -> float:
    """The adjective's value times the factors of degree, negation, attitude and aspect."""
    return (
        ADJECTIVES[clause.adjective]
        * DEGREES[clause.degree]
        * NEGATIONS[clause.negation]
        * ATTITUDES[clause.attitude]
        * ASPECTS[clause.aspect]
    )


def clause_tags(clause: Clause) -> list[str]:
    """An IOB2 tag for each word of a clause: its opinion is a span, of the type that the clause's value has."""
    opinion = len(f"{clause.negation} {clause.degree} {clause.adjective}".split())
    value = clause_value(clause)
    kind = "neutral" if value == 0 else "positive" if value > 0 else "negative"
    tags = [f"B-{kind}", *[f"I-{kind}"] * (opinion - 1)]
    return [OUTSIDE] * (len(str(clause).split()) - opinion) + tags


def review_value(clauses: Sequence[Clause], connectives: Sequence[str]) -> float:
    """Read from left to right: `and` adds the next clause, `but` keeps only it, `although` passes over it."""
    value = clause_value(clauses[0])
    for connective, clause in zip(connectives, clauses[1:], strict=True):
        if connective == "and":
            value += clause_value(clause)
        elif connective == "but":
            value = clause_value(clause)
    return value


def review_label(value: float) -> str | None:
    """The class of a value; None where it is too near a border to belong to one."""
    if abs(value) <= MIXED:
        return "mixed"
    if abs(value) < CLEAR:
        return None
    return "positive" if value > 0 else "negative"


def vocabulary() -> list[str]:
    """Every token of the task, special tokens first."""
    phrases = ["the was", *ATTITUDES, *CONNECTIVES, *ASPECTS, *NEGATIONS, *DEGREES, *ADJECTIVES]
    return [*SPECIAL, *(word for phrase in phrases for word in phrase.split())]


def word_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer with one token for each word: `[CLS] A [SEP]`, or `[CLS] A [SEP] B [SEP]` for a pair."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    ids = {word: number for number, word in enumerate(vocabulary())}
    backend = Tokenizer(models.WordLevel(ids, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.BertProcessing(("[SEP]", ids["[SEP]"]), ("[CLS]", ids["[CLS]"]))
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )


def make_reviews(config: TaskConfig) -> TaskSource:
    """Makes the splits: balanced classes, and no sentence in two splits.

    Short sentences recur within a split, as they do in speech. A split's rows do not depend on the size of another.
    """
    settings = config.reviews
    assert settings is not None
    sizes = {"train": settings.train, "validation": settings.validation, "test": settings.test}
    wanted = {
        (split, label): size // 3 + (number < size % 3)
        for split, size in sizes.items()
        for number, label in enumerate(CLASSES)
    }
    rows: dict[str, list[tuple[str, list[str], str]]] = {split: [] for split in sizes}
    rng = random.Random(settings.seed)
    while any(wanted.values()):
        sentence, tags, label = _draw(rng, settings.clauses)
        split = _split_of(sentence)
        if label is not None and wanted[split, label]:
            wanted[split, label] -= 1
            rows[split].append((sentence, tags, label))
    judge = config.metric or "accuracy"
    tagged = task_kind(metric(judge).kind).words
    tables = {
        split: pa.table(
            {
                "text": [text.split() if tagged else text for text, _, _ in found],
                "label": [tags if tagged else label for _, tags, label in found],
            }
        )
        for split, found in rows.items()
    }
    places = {split: f"the {split} split of the reviews" for split in tables}
    classes = TAGS if tagged else CLASSES
    return TaskSource(tables, ("text",), judge, classes=classes, name="reviews", places=places)


def _draw(rng: random.Random, most: int) -> tuple[str, list[str], str | None]:
    """A random review of one to `most` clauses, a tag for each of its words, and its label."""
    clauses = [_draw_clause(rng) for _ in range(rng.choices(range(1, most + 1), CLAUSE_WEIGHTS[:most])[0])]
    connectives = [rng.choice(CONNECTIVES) for _ in clauses[1:]]
    words, tags = [str(clauses[0])], clause_tags(clauses[0])
    for connective, clause in zip(connectives, clauses[1:], strict=True):
        words += [connective, str(clause)]
        tags += [OUTSIDE, *clause_tags(clause)]
    return " ".join(words), tags, review_label(review_value(clauses, connectives))


def _draw_clause(rng: random.Random) -> Clause:
    return Clause(
        attitude=rng.choices(list(ATTITUDES), ATTITUDE_WEIGHTS)[0],
        aspect=rng.choice(list(ASPECTS)),
        negation=rng.choices(list(NEGATIONS), NEGATION_WEIGHTS)[0],
        degree=rng.choices(list(DEGREES), DEGREE_WEIGHTS)[0],
        adjective=rng.choice(list(ADJECTIVES)),
    )


def _split_of(sentence: str) -> str:
    """The split that a sentence may be in: tenths of the hash's range, 7 train, 1 validation, 2 test."""
    tenth = int.from_bytes(hashlib.sha256(sentence.encode()).digest()[:8], "big") * 10 >> 64
    return "train" if tenth < 7 else "validation" if tenth < 8 else "test"
