import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test asks the hub for anything

import torch
from hypothesis import settings

torch.set_num_threads(1)  # the last bits of a result depend on it

settings.register_profile("unhurried", deadline=None)  # a loaded machine is no failure
settings.load_profile("unhurried")
