"""A step of every method (forward and backward, its views being there) beside the bare passes
through its networks: the same calls of encoder, projector, predictor, teacher and decoder, each
forward and, with the gradient that reached it in the step, backward.

    python benchmarks/methods.py --dims 2
    python benchmarks/methods.py --dims 3
    python benchmarks/methods.py --small --only simclr --only swav

What a ratio is above 1 is the method's own: its loss, masks, queues and assignments. Methods have
their default options, and a ViT where they refuse the encoder; steps are as in the middle of a run.
Not part of it: views, the optimiser, and what happens after its step (a teacher's update, a
clustering).
"""

from __future__ import annotations

import dataclasses
import functools
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Annotated, Any, Literal

import torch
import typer
from paired import take_turns
from torch import Tensor, nn

from medssl.bundle import EncoderSpec
from medssl.methods import METHODS, Crops, Method, Samples
from medssl.networks import build_encoder
from medssl.views import Draw, sample_key

Run = Callable[[], object]

VOLUMES = 1000
SIDES = {2: 128, 3: 48}
SMALL = {"unet": {"widths": [4, 8]}, "vit": {"patch_size": 4, "embed_dim": 24, "depth": 1}}


@dataclass
class Call:
    """A call of a network in a step.

    Attributes:
        module, args, kwargs: as it was called; tensors without their history.
        gradients: of the tensors it gave, by their number; none of a teacher's.
    """

    module: nn.Module
    args: Any
    kwargs: Any
    gradients: dict[int, Tensor] = field(default_factory=dict)


def mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The value with its tensors changed, inside lists, tuples, dicts and dataclasses too."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, (list, tuple)):
        parts = [mapped(part, change) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    if isinstance(value, dict):
        return {key: mapped(part, change) for key, part in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.replace(value, **mapped(vars(value), change))
    return value


def tensors(value: Any) -> Iterator[Tensor]:
    """The tensors in a value, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from tensors(part)
    elif isinstance(value, dict):
        yield from tensors(list(value.values()))
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from tensors(vars(value))


def fresh(tensor: Tensor) -> Tensor:
    """The tensor without its history, asking for a gradient where it did."""
    return tensor.detach().requires_grad_(tensor.requires_grad)


def recorded(method: Method, step: Callable[[], object]) -> list[Call]:
    """The outermost calls of the method's networks while `step` runs; losses are no networks."""
    calls: list[Call] = []
    inside: list[nn.Module] = []

    def before(module: nn.Module, args: Any, kwargs: Any) -> None:
        if not inside:
            calls.append(Call(module, mapped(args, fresh), mapped(kwargs, fresh)))
        inside.append(module)

    def after(module: nn.Module, args: Any, output: Any) -> Any:
        inside.pop()
        return output if inside else mapped(output, functools.partial(watch, calls[-1], count()))

    def watch(call: Call, numbers: Iterator[int], tensor: Tensor) -> Tensor:
        number = next(numbers)
        if not tensor.requires_grad:
            return tensor
        # A view: the gradient from outside alone, not what another output passes on inside.
        seen = tensor.view_as(tensor)
        seen.register_hook(lambda given: call.gradients.__setitem__(number, given.detach()))
        return seen

    hooks = []
    for module in method.modules():
        if module is not method and not type(module).__module__.startswith("medssl.losses"):
            hooks.append(module.register_forward_pre_hook(before, with_kwargs=True))
            hooks.append(module.register_forward_hook(after))
    try:
        step()
    finally:
        for hook in hooks:
            hook.remove()
    return calls


def replayed(calls: list[Call]) -> None:
    """The calls again, each forward and, where it was in the step, backward."""
    for call in calls:
        output = call.module(*mapped(call.args, fresh), **mapped(call.kwargs, fresh))
        if call.gradients:
            given = list(tensors(output))
            reached = [given[number] for number in call.gradients]
            torch.autograd.backward(reached, list(call.gradients.values()))


def crops(batch: int, dims: int, side: int, device: torch.device) -> Crops:
    """Noise, of as many volumes."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(batch, 1, *(side,) * dims, generator=generator).to(device)
    keys = torch.tensor([sample_key(0, 0, n) for n in range(batch)], device=device)
    spacing = torch.ones(batch, dims, device=device)
    return Crops.whole(image, Draw(keys), spacing, torch.arange(batch, device=device))


def rivals(name: str, encoder: nn.Module, batch: Crops) -> tuple[Run, Run, list[Call]]:
    """The method's step, its bare passes, and the calls those are."""
    size = tuple(batch.image.shape[2:])
    kind = METHODS[name]
    method = kind(kind.Config(), encoder, Samples(size, VOLUMES)).to(batch.image.device).train()
    method.number, method.progress = 10_000, 0.5
    for maker in ("mapped_views", "views"):
        if hasattr(method, maker):
            made = getattr(method, maker)(batch)
            setattr(method, maker, lambda *given, made=made: made)

    def step() -> None:
        method.zero_grad(set_to_none=True)
        method.step(batch).loss.backward()

    calls = recorded(method, step)

    def passes() -> None:
        method.zero_grad(set_to_none=True)
        replayed(calls)

    return step, passes, calls


def fitting(
    name: str, encoder: str, small: bool, batch: Crops
) -> tuple[str, tuple[Run, Run, list[Call]]]:
    """The rivals with this encoder, or where the method refuses it with a ViT; and which it was.

    Raises:
        ValueError: the method refuses both.
    """
    dims: Literal[2, 3] = 2 if batch.image.ndim == 4 else 3
    for family in dict.fromkeys((encoder, "vit")):
        torch.manual_seed(0)
        options = SMALL.get(family, {}) if small else {}
        try:
            asked = EncoderSpec(name=family, dims=dims, options=options)
            spec = METHODS[name].encoder_for(asked)
            built = build_encoder(spec.name, dims, 1, **spec.options)
            return family, rivals(name, built, batch)
        except ValueError as error:
            refused = error
    raise refused


def timed(run: Run, device: torch.device) -> Run:
    """The same, until the device has done it."""
    if device.type != "cuda":
        return run

    def waited() -> None:
        run()
        torch.cuda.synchronize(device)

    return waited


def main(
    dims: Annotated[int, typer.Option(help="2 or 3.")] = 3,
    batch: Annotated[int, typer.Option(help="Crops a step; 0: 16 in 2D, 8 in 3D.")] = 0,
    side: Annotated[int, typer.Option(help="Of the crops; 0: 128 in 2D, 48 in 3D.")] = 0,
    encoder: Annotated[str, typer.Option(help="Its name.")] = "unet",
    only: Annotated[list[str] | None, typer.Option(help="Of these methods alone.")] = None,
    small: Annotated[bool, typer.Option(help="Tiny crops and encoder: does it run?")] = False,
    rounds: Annotated[int, typer.Option(help="How often each is timed.")] = 9,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    threads: Annotated[int, typer.Option(help="Of PyTorch.")] = 2,
    processor: Annotated[bool, typer.Option(help="Count processor time, not wall time.")] = False,
) -> None:
    """Print a row a method: medians in ms, and the median of the rounds' ratios."""
    torch.set_num_threads(threads)
    place = torch.device(device)
    size, edge = (4, 16) if small else (batch or (16 if dims == 2 else 8), side or SIDES[dims])
    print(f"{encoder}, {size} crops of {edge}^{dims}, {device}, {threads} threads\n")
    print("| method | calls | step, ms | passes, ms | times as long |")
    print("| --- | --- | --- | --- | --- |")
    for name in only or METHODS:
        try:
            family, rival = fitting(name, encoder, small, crops(size, dims, edge, place))
        except ValueError as error:
            print(f"| {name} | not with this encoder: {error} | | | |")
            continue
        step, passes, calls = rival
        clock = time.process_time if processor else time.perf_counter
        rows = {"step": timed(step, place), "passes": timed(passes, place)}
        seconds = take_turns(rows, rounds, clock=clock)
        pairs = zip(seconds["step"], seconds["passes"], strict=True)
        ratio = statistics.median(a / b for a, b in pairs)
        whole, bare = (1000 * statistics.median(seconds[key]) for key in rows)
        shown = name if family == encoder else f"{name} ({family})"
        print(f"| {shown} | {len(calls)} | {whole:.1f} | {bare:.1f} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    typer.run(main)
