"""A tiny experiment of the benchmarks."""

import pytest

EXPERIMENT = """
task: {reviews: {train: 96, validation: 40, test: 40, clauses: 2}, max_length: 32}
teacher:
  architecture: {model_type: bert, hidden_size: 24, num_hidden_layers: 2, num_attention_heads: 4,
    intermediate_size: 32, max_position_embeddings: 32, initializer_range: 0.2}
  finetune: {epochs: 1, lr: 2.0e-3, batch_size: 16}
grid: {scales: [0.8, 0.5, 0.25], importance_rows: 32}
student: {scale: 0.25}
once_for_all: {epochs: 1, lr: 1.0e-3, batch_size: 16}
distillation: {epochs: 1, lr: 1.0e-3, batch_size: 16}
"""


@pytest.fixture
def experiment(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(EXPERIMENT)
    return path
