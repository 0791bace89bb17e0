"""A tiny but whole experiment, run as a user runs it: by the command, in a process of its own."""

import contextlib
import hashlib
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from raydisc.cli.main import main

EXPERIMENT = """
task: {reviews: {train: 240, validation: 80, test: 90, clauses: 2}, max_length: 32}
teacher:
  architecture: {model_type: bert, hidden_size: 24, num_hidden_layers: 2, num_attention_heads: 4,
    intermediate_size: 32, max_position_embeddings: 32, initializer_range: 0.2,
    hidden_dropout_prob: 0.1, attention_probs_dropout_prob: 0.1}
  finetune: {epochs: 2, lr: 2.0e-3, batch_size: 16}
grid: {scales: [0.8, 0.5, 0.25], importance: gradient}
student: {scale: 0.25}
schedules: [kd, maxidisc, {minidisc: {lam: 0.2}}]
controls: [kd_equal_compute, kd_from_supernet]
once_for_all: {epochs: 1, lr: 1.0e-3, batch_size: 16, candidates: all, choose_at: 1}
distillation: {epochs: 1, lr: 1.0e-3, batch_size: 16}
"""

LASTING = """
task: {reviews: {train: 240, validation: 80, test: 90, clauses: 2}, max_length: 32}
teacher:
  architecture: {model_type: bert, hidden_size: 64, num_hidden_layers: 2, num_attention_heads: 4,
    intermediate_size: 1400, max_position_embeddings: 32, initializer_range: 0.1,
    hidden_dropout_prob: 0.1, attention_probs_dropout_prob: 0.1}
  finetune: {epochs: 8, lr: 5.0e-4, batch_size: 16}
grid: {scales: [0.8, 0.5, 0.25], importance: gradient}
student: {scale: 0.25}
schedules: [kd, {minidisc: {lam: 0.2}}]
controls: false
once_for_all: {epochs: 4, lr: 5.0e-4, batch_size: 16, candidates: all, choose_at: 1}
distillation: {epochs: 4, lr: 5.0e-4, batch_size: 16}
resources: {checkpoint_every_s: 0.5}
"""
"""Its stages that are trained take some seconds each, and their weights are large enough for hot copies."""


SEVERAL = """
import contextlib, io, json, sys
from raydisc.cli.main import main

found = []
for words in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.redirect_stderr(io.StringIO()) as said:
        code = main(words)
    found.append([code, (said if code else printed).getvalue()])
print(json.dumps(found))
"""


@dataclass(frozen=True)
class Desk:
    """A user's current folder with an experiment file, and the command run in it."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """The variables that the command finds."""
        return {**os.environ, "HOME": str(self.folder), "COLUMNS": "200"}

    def start(self, *words: str) -> "subprocess.Popen[str]":
        """Start the command without waiting."""
        return self._python("-m", "raydisc.cli.main", *words)

    def _python(self, *words: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, *words],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: str, code: int = 0) -> str:
        """Run the command to its end; gives what it printed."""
        process = self.start(*words)
        printed, said = process.communicate(timeout=300)
        assert process.returncode == code, f"{words}: {process.returncode}\n{printed}\n{said}"
        return printed if code == 0 else said

    def ask(self, *words: str, code: int = 0) -> str:
        """Run a command that begins no session of Ray, in this process, which has imported everything already.

        Gives what it printed, or, where it is to fail, what it said.
        """
        printed, said = io.StringIO(), io.StringIO()
        with (
            patch.dict(os.environ, self.environment),
            contextlib.chdir(self.folder),
            contextlib.redirect_stdout(printed),
            contextlib.redirect_stderr(said),
        ):
            found = main(words)
        assert found == code, f"{words}: {found}\n{printed.getvalue()}\n{said.getvalue()}"
        return (printed if code == 0 else said).getvalue()

    def several(self, *commands: Sequence[str]) -> list[tuple[int, str]]:
        """Run commands one after the other in one process, which imports everything once.

        Gives of each its code and what it printed, or, where it failed, what it said.
        """
        process = self._python("-c", SEVERAL, json.dumps(commands))
        printed, said = process.communicate(timeout=300)
        assert process.returncode == 0, f"{commands}: {process.returncode}\n{printed}\n{said}"
        return [(code, told) for code, told in json.loads(printed)]

    def json(self, *words: str) -> Any:
        """Run the command and read what it printed as JSON."""
        return json.loads(self.run(*words))


def make_desk(folder: Path, experiment: str = EXPERIMENT) -> Desk:
    """A folder with the tiny experiment, or another, in `tiny.yaml`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tiny.yaml").write_text(experiment)
    return Desk(folder)


def said_until(process: "subprocess.Popen[str]", pattern: str) -> str:
    """Read what a command says until it says this; gives all of it."""
    assert process.stderr is not None
    said = ""
    while not re.search(pattern, said):
        line = process.stderr.readline()
        assert line, f"{process.wait()}: {said}"
        said += line
    return said


def student_hashes(desk: Desk, run: str = "tiny") -> dict[str, str]:
    """SHA-256 of each student's weights by trial."""
    return {
        path.parent.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (desk.folder / "runs" / run / "students").glob("*/model.safetensors")
    }
