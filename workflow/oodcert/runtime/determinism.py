"""How torch computes, where its own defaults leave that to speed or to the GPU."""

import os

import torch


def enable_determinism(warn_only: bool = False) -> None:
    """Makes torch compute the same numbers in every run.

    It turns on deterministic algorithms and turns off the search for the fastest one. float32 stays float32: TF32,
    torch's default in convolutions, keeps 10 bits of 23. Products of bfloat16 are summed in float32. New tensors are
    not filled with NaN first, which torch does with deterministic algorithms, and which takes time: nothing here reads
    a tensor before it is written. Call this before anything is computed on a GPU.

    Args:
        warn_only: Whether an operation without a deterministic algorithm runs with a warning instead of an error.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=warn_only)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # torch has no stub
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
