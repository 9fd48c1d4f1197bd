"""Scaled dot-product attention, by the quicker of two ways."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# Above it the fused kernel is as quick on a CPU and needs no (N, N) memory; benchmarks/mae.py.
_PLAIN_TOKENS = 512


def attention(q: Tensor, k: Tensor, v: Tensor, attend: Tensor | None = None) -> Tensor:
    """softmax(q kT / sqrt(width)) v (Vaswani et al. 2017, eq. 1), in the dtype of the input.

    Args:
        q: (B, heads, N, width).
        k, v: (B, heads, M, width).
        attend: bool, broadcastable to (B, heads, N, M), True = may be attended to.
    """
    if attend is None and plain_is_quicker(q):
        return _plain(q, k, v)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=attend)


def plain_is_quicker(q: Tensor) -> bool:
    """Whether two batched matrix products beat the fused kernel for such queries (B, heads, N, D).

    PyTorch's fused kernel for CPUs converts bf16 block by block and its backward costs three to
    five times the plain one's, up to some hundred tokens. In float32, and on GPUs, fused wins.
    """
    half = q.dtype == torch.bfloat16
    return q.device.type == "cpu" and half and q.shape[-2] <= _PLAIN_TOKENS


def _plain(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    batch, heads, tokens, width = q.shape
    q, k, v = (t.reshape(batch * heads, -1, width) for t in (q * width**-0.5, k, v))
    weights = torch.bmm(q, k.transpose(1, 2)).softmax(dim=-1)
    return torch.bmm(weights, v).view(batch, heads, tokens, width)
