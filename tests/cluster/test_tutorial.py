"""The tutorial of the documentation, followed word for word with few rows and a tiny model of the name it uses."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from transformers import BertConfig, BertForSequenceClassification

from raydisc.tasks.reviews import word_tokenizer

pytestmark = pytest.mark.cluster

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial.md"
SENTENCES = ("the food is good", "the food is bad", "the room is not bad", "the staff is not good")


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A folder with a reader's CSV file, and with a model where its name on the hub would be looked for first."""
    rows = [
        {"text": f"{SENTENCES[row % 4]} {'good bad'.split()[row % 2]} {row}", "label": row % 2} for row in range(80)
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "reviews.csv", index=False)
    tokenizer = word_tokenizer()
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=24, num_hidden_layers=2, num_attention_heads=4, intermediate_size=32,
        max_position_embeddings=64,
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(tmp_path / "bert-base-uncased")
    tokenizer.save_pretrained(tmp_path / "bert-base-uncased")
    return tmp_path


@pytest.mark.timeout(1800)
def test_the_tutorial_works_word_for_word(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)
    blocks = re.findall(r"^```(python|yaml|console)\n(.*?)^```$", TUTORIAL.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert {language for language, _ in blocks} == {"python", "yaml", "console"}
    session: dict[str, Any] = {}
    for language, block in blocks:
        if language == "python":
            exec(block, session)
        elif language == "yaml":
            name = re.match(r"# (\S+\.yaml)\n", block)
            assert name is not None
            Path(name[1]).write_text(block, encoding="utf-8")
        else:
            for command in re.findall(r"^\$ (.*)", block, re.MULTILINE):
                _type(command)
    assert session["folder"] == here / "runs/mine/students" / session["best"]
    assert [set(answer) for answer in session["answers"]] == [{"label", "score"}] * 2
    assert len(pd.read_csv("labels.csv")) == 2
    assert Path("runs/mine/report.html").is_file()


def _type(command: str) -> None:
    """Run a line of a terminal, in which ``raydisc`` is the one under test."""
    line = re.sub(r"^raydisc\b", f"'{sys.executable}' -m raydisc", command)
    environment = {**os.environ, "HOME": str(Path.cwd()), "COLUMNS": "200"}
    ran = subprocess.run(
        ["bash", "-c", line], env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert ran.returncode == 0, f"{command}\n{ran.stdout}\n{ran.stderr}"
