"""GPU safety: attention kernels that support gradients, and an error that says so when the GPU is lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from steerclear.errors import DeviceLostError

# parts of error messages by which an error of the GPU is told from one of Python
_DEVICE_WORDS = (
    "CUDA error",
    "HIP error",
    "CUDA driver error",
    "cuDNN error",
    "CUBLAS_STATUS",
    "CUDNN_STATUS",
)

# of `differentiable_kernels`: number of running blocks, and the setting before the first
_lock = threading.Lock()
_users = 0
_cudnn_before = True


def raise_if_lost(error: BaseException) -> None:
    """Raise DeviceLostError if an error has left the GPU unusable.

    After some errors (an illegal memory access, an assertion on the device) every later call in this process
    fails. A guard that took these for failures of a strategy would withhold every image from then on. Call
    this in every handler that continues after an error.

    Args:
        error: what was caught.

    Raises:
        DeviceLostError: where the device no longer answers; not where it only ran out of memory.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, DeviceLostError):
            raise cause
        if _is_of_device(cause) and not _device_answers():
            raise DeviceLostError(
                f"the device failed and no longer answers ({type(cause).__name__}: "
                f"{str(cause).splitlines()[0]}); nothing is handed out. Restart the process"
            ) from error
        cause = cause.__cause__ or cause.__context__


@contextmanager
def raising_if_lost() -> Iterator[None]:
    """Turn an error that has left the device unusable into DeviceLostError; others pass as they are."""
    try:
        yield
    except Exception as error:
        raise_if_lost(error)
        raise


def _is_of_device(error: BaseException) -> bool:
    """Whether an error comes from the device and may have made it unusable."""
    if isinstance(error, torch.OutOfMemoryError):
        return False
    kind = getattr(torch, "AcceleratorError", ())  # of torch 2.8 and later
    return isinstance(error, kind) or (
        isinstance(error, RuntimeError) and any(word in str(error) for word in _DEVICE_WORDS)
    )


def _device_answers() -> bool:
    """Whether every GPU still computes; False where there is none that could be asked."""
    try:
        for index in range(torch.cuda.device_count()):
            torch.cuda.synchronize(index)
            torch.zeros(1, device=f"cuda:{index}").item()
    except torch.OutOfMemoryError:
        return True
    except RuntimeError:
        return False
    return torch.cuda.is_available()


@contextmanager
def differentiable_kernels() -> Iterator[None]:
    """Run attention without cuDNN's kernels until the block ends, so that gradients can pass.

    Their backward pass ends in an illegal memory access at the size of FLUX.1 (torch 2.11, H100). The setting
    is global to the process, so the last of several concurrent blocks restores it.
    """
    global _users, _cudnn_before
    with _lock:
        if _users == 0:
            _cudnn_before = bool(torch.backends.cuda.cudnn_sdp_enabled())  # type: ignore[no-untyped-call]
            torch.backends.cuda.enable_cudnn_sdp(False)
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                torch.backends.cuda.enable_cudnn_sdp(_cudnn_before)
