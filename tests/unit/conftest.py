import os
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test asks the hub for anything

import torch
from hypothesis import settings

# One for each of pytest's workers is the fastest; results may differ in their last bits with another number.
torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))

settings.register_profile("unhurried", deadline=None)  # a loaded machine does not count as a failure
settings.load_profile("unhurried")

# What several folders of tests import: a package outside raydisc, and the benchmarks, which are scripts beside it.
for folder in (Path(__file__).parent / "outside", Path(__file__).parents[2] / "experiments" / "benchmarks"):
    sys.path.append(str(folder))
