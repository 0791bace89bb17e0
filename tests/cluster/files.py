"""An experiment on files of the user's, which travel with a job."""

from pathlib import Path

FILES = """
task:
  {train: data/train.csv, validation: data/validation.csv, test: data/test.csv, text: [text], metric: accuracy,
   max_length: 16}
teacher: {model: teacher}
student: {scale: 0.5}
grid: {scales: [0.5]}
schedules: [kd]
distillation: {epochs: 1}
storage: files
"""


def write_files(folder: Path) -> None:
    """Write a task, a tiny teacher with its tokenizer, and the experiment that names them, none of any use."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "bad"]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder / "teacher")
    shape = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 32}
    config = BertConfig(vocab_size=len(words), max_position_embeddings=32, **shape)
    BertForSequenceClassification(config).save_pretrained(folder / "teacher")
    (folder / "data").mkdir()
    for split in ("train", "validation", "test"):
        (folder / "data" / f"{split}.csv").write_text("text,label\n" + "good,1\nbad,0\n" * 40)
    (folder / "files.yaml").write_text(FILES)
