"""Random numbers that depend only on the sample they are drawn for.

A generator with hidden state gives a sample other numbers when the batch around it changes or a run
is resumed. Here every number is a hash of (key of the sample, number of the call, position), so it
is the same in any batch, in any process and on any device (Salmon et al. 2011, "Parallel random
numbers: as easy as 1, 2, 3"; the hash is splitmix64, Steele et al. 2014, figure 18).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import torch
from torch import Tensor


def _signed(value: int) -> int:
    """The 64 bits of `value` read as a signed integer, which is what torch can hold."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


_GOLDEN = 0x9E3779B97F4A7C15
_MIX_1 = 0xBF58476D1CE4E5B9
_MIX_2 = 0x94D049BB133111EB
_CALL = 0xD1342543DE82EF95
_FORK = 0xA0761D6478BD642F


def _mix_int(value: int) -> int:
    """splitmix64's finaliser on one unsigned Python integer."""
    value &= (1 << 64) - 1
    value = ((value ^ (value >> 30)) * _MIX_1) & ((1 << 64) - 1)
    value = ((value ^ (value >> 27)) * _MIX_2) & ((1 << 64) - 1)
    return value ^ (value >> 31)


def _shift(bits: Tensor, by: int) -> Tensor:
    """Shift right bringing in zeros: torch shifts int64 arithmetically, so the sign is masked."""
    return (bits >> by) & ((1 << (64 - by)) - 1)


def _mix(bits: Tensor) -> Tensor:
    """splitmix64's finaliser on int64 tensors, in place; the product wraps modulo 2^64."""
    spare = torch.empty_like(bits)
    for by, factor in ((30, _MIX_1), (27, _MIX_2), (31, 0)):
        torch.bitwise_right_shift(bits, by, out=spare)
        bits.bitwise_xor_(spare.bitwise_and_((1 << (64 - by)) - 1))
        if factor:
            bits.mul_(_signed(factor))
    return bits


@functools.cache
def _normal_table(device: str) -> Tensor:
    """Standard normal quantiles of 16-bit numbers, of variance 1: float32 (65536,)."""
    middle = (torch.arange(65536, dtype=torch.float64) + 0.5) / 65536
    quantiles: Tensor = torch.special.ndtri(middle)
    return (quantiles / quantiles.square().mean().sqrt()).float().to(device)


def _counted(start: Tensor, count: int) -> Tensor:
    """The first `count` outputs of splitmix64 from each state: int64 (*start.shape, count)."""
    counter = torch.arange(1, count + 1, device=start.device).mul_(_signed(_GOLDEN))
    return _mix(torch.add(start[..., None], counter))


def _unit(bits: Tensor) -> Tensor:
    """Uniform in [0, 1) from the upper 24 of 64 bits."""
    return _shift(bits, 40).to(torch.float32).mul_(2.0**-24)


def sample_key(seed: int, epoch: int, index: int) -> int:
    """The key of sample `index` in `epoch` of a run with `seed`: a signed 64-bit integer."""
    key = _mix_int(seed + _GOLDEN)
    key = _mix_int(key + (epoch + 1) * _GOLDEN)
    return _signed(_mix_int(key + (index + 1) * _GOLDEN))


class Draw:
    """Draws numbers for a batch of samples, each from its own key.

    Every call takes the next place in the stream, so two calls give unrelated numbers, and the same
    calls on the same keys give the same numbers. Results have shape (B, *shape) and lie on the
    device of the keys; nothing waits for the device.

    Args:
        keys: int64 (B,), one key a sample (`sample_key`).
        stream: which of 2^64 unrelated streams of these keys to read.

    Raises:
        ValueError: keys are not a vector of int64.
    """

    def __init__(self, keys: Tensor, stream: int = 0) -> None:
        if keys.ndim != 1 or keys.dtype != torch.int64:
            raise ValueError(
                f"keys must be an int64 vector (B,), not {keys.dtype} of shape {tuple(keys.shape)}"
            )
        self.keys = keys
        self.stream = stream
        self._base = _mix(keys + _signed(_mix_int(stream * _FORK + _GOLDEN)))
        self._calls = 0

    def fork(self, stream: int) -> Draw:
        """Another stream of the same samples, which does not move this one's place."""
        return Draw(self.keys, _mix_int(self.stream * _FORK + stream + 1))

    def bits(self, *shape: int) -> Tensor:
        """64 random bits each: int64 (B, *shape)."""
        self._calls += 1
        start = _mix(self._base + _signed(self._calls * _CALL))
        return _counted(start, math.prod(shape)).reshape(len(self.keys), *shape)

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Uniform in [low, high): float32 (B, *shape)."""
        unit = _unit(self.bits(*shape))
        # With low and high far apart the product can round up to high itself.
        return (low + (high - low) * unit).clamp_(max=max(_below(high), low))

    def table(self, streams: Sequence[int], count: int) -> Tensor:
        """What ``fork(s).uniform(0, 1, count)`` gives for every s of `streams`, at the cost of one.

        Returns:
            float32 (B, len(streams), count) in [0, 1).
        """
        forks = (_mix_int(self.stream * _FORK + stream + 1) for stream in streams)
        offsets = [_signed(_mix_int(fork * _FORK + _GOLDEN)) for fork in forks]
        offset = torch.tensor(offsets).to(self.keys.device, non_blocking=True)
        start = _mix(_mix(self.keys[:, None] + offset) + _signed(_CALL))
        return _unit(_counted(start, count))

    def normal(self, *shape: int) -> Tensor:
        """Standard normal: float32 (B, *shape), four from each 64 bits.

        Every value is one of 65,536 equally likely quantiles, so none lies beyond 4.33. The same on
        every device, bit for bit, as it takes no floating-point operation.
        """
        count = math.prod(shape)
        index = self.bits((count + 3) // 4).view(torch.uint16)[:, :count].to(torch.int32)
        values = _normal_table(str(self.keys.device)).index_select(0, index.flatten())
        return values.reshape(len(self.keys), *shape)

    def bernoulli(self, p: float, *shape: int) -> Tensor:
        """True with probability p: bool (B, *shape)."""
        return self.uniform(0.0, 1.0, *shape) < p

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        """Uniform over low, ..., high - 1: int64 (B, *shape).

        Raises:
            ValueError: the range is empty.
        """
        if high <= low:
            raise ValueError(f"no integer lies in [{low}, {high})")
        return low + _shift(self.bits(*shape), 1) % (high - low)

    def permutation(self, n: int) -> Tensor:
        """A random order of 0, ..., n - 1 for each sample: int64 (B, n)."""
        return self.bits(n).argsort(dim=1, stable=True)


def _below(value: float) -> float:
    """The largest float32 below `value`, so that a clamp keeps the interval half open."""
    top = torch.tensor(value, dtype=torch.float32)
    return float(torch.nextafter(top, torch.tensor(-math.inf)))
