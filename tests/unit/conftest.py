import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test asks the hub for anything

import torch

torch.set_num_threads(1)  # the last bits of a result depend on it
