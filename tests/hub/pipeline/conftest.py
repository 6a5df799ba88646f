"""Training in tests takes one core and no more, whoever else is busy."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: idle OpenMP threads would spin otherwise

import torch

torch.set_num_threads(1)
