"""How torch computes, where its own defaults leave that to speed or to the GPU."""

import os

import torch


def enable_determinism(warn_only=False):
    """Deterministic algorithms and no search for the fastest one; float32 in float32, not TF32, which keeps 10 bits of
    23 and is torch's default in convolutions; sums of bfloat16 products in float32.

    warn_only: whether an operation without a deterministic algorithm is let through with a warning. Call it before
    anything is computed on a GPU.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=warn_only)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
