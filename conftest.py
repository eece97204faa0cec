"""For all tests, of product and laboratory: none reaches the network, none takes more than two cores."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from hypothesis import settings

settings.register_profile("steerclear", deadline=None)  # a busy machine is not a failure
settings.load_profile("steerclear")
side_by_side = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
threads = max(1, min(2, int(os.environ.get("OMP_NUM_THREADS", "2"))) // side_by_side)
torch.set_num_threads(threads)
os.environ["OMP_NUM_THREADS"] = str(threads)  # for the processes that tests start


def pytest_configure(config):
    # diffusers' schedulers mix tensors into numpy expressions, which torch does not answer in numpy 2's form
    for message in ("__array__ implementation doesn't accept a copy", "__array_wrap__ must accept context"):
        config.addinivalue_line("filterwarnings", f"ignore:{message}:DeprecationWarning")
    # Kandinsky's combined pipeline hands its decoder an argument that diffusers has retired
    config.addinivalue_line("filterwarnings", "ignore:`callback_steps` is deprecated:FutureWarning")
