"""Experiment files that tests load."""

FROM_THE_ISSUE = """
task:        {train: data/train.parquet, validation: data/validation.parquet, test: data/test.parquet,
              text: [sentence], label: label, metric: accuracy, max_length: 128}
teacher:     {model: path-or-hub-name, finetune: {epochs: 3, lr: 5.0e-5}}     # no finetune: a teacher already
grid:        {scales: [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05], importance: gradient}
student:     {scale: 0.1}
schedules:   [kd, maxidisc, {minidisc: {lam: 0.2, assistants: 1}}]
once_for_all: {epochs: 3, lr: 1.0e-4, batch_size: 32, sandwich: all}
distillation: {epochs: 3, lr: 1.0e-4, batch_size: 32, initialisation: supernet}
seeds:       [0, 1, 2]
resources:   {trials: auto, cpus: 1, gpus: 0}
storage:     runs
"""

REVIEWS = "task: {reviews: {}}\nteacher: {model: some-teacher}\nstudent: {scale: 0.1}\n"
GLUE = "task: {glue: sst2}\nteacher: {model: some-teacher}\nstudent: {scale: 0.1}\n"
