"""A family that transformers does not have: BERT with a configuration of its own."""

from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
)

from raydisc.families.encoders import bert_like


class OutsideBertConfig(BertConfig):
    """The configuration of BERT under another name."""

    model_type = "outside_bert"


class OutsideBertForSequenceClassification(BertForSequenceClassification):
    """The classifier of BERT under another name."""

    config_class = OutsideBertConfig


AutoConfig.register("outside_bert", OutsideBertConfig)
AutoModelForSequenceClassification.register(OutsideBertConfig, OutsideBertForSequenceClassification)

OUTSIDE_BERT = bert_like("outside_bert", "bert")
