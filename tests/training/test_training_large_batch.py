import pytest
import torch

from medssl.training.large_batch import LAMB, LARS


def problem():
    torch.manual_seed(0)
    tensors = [torch.randn(3, 4), torch.randn(4), torch.zeros(2, 2)]
    gradients = [[torch.randn_like(t) for t in tensors] for _ in range(4)]
    gradients[2][0].zero_()
    return tensors, gradients


def run(kind, tensors, gradients, **options):
    parameters = [torch.nn.Parameter(t.clone()) for t in tensors]
    groups = [
        {"params": [parameters[0], parameters[2]], "weight_decay": 0.1, "adapt": True},
        {"params": [parameters[1]], "weight_decay": 0.0, "adapt": False},
    ]
    optimiser = kind(groups, lr=0.3, **options)
    for step in gradients:
        for parameter, gradient in zip(parameters, step, strict=True):
            parameter.grad = gradient.clone()
        optimiser.step()
    return parameters


def norm(values):
    return sum(v * v for v in values) ** 0.5


def lars(w, gradients, decay, adapt, lr=0.3, momentum=0.9, trust=0.001):
    v = [0.0] * len(w)
    for g in gradients:
        rate = 1.0
        if adapt and norm(w) > 0 and norm(g) > 0:
            rate = trust * norm(w) / (norm(g) + decay * norm(w))
        for i in range(len(w)):
            v[i] = momentum * v[i] + lr * rate * (g[i] + decay * w[i])
        w = [a - b for a, b in zip(w, v, strict=True)]
    return w


def lamb(w, gradients, decay, adapt, lr=0.3, beta1=0.9, beta2=0.99, eps=1e-6):
    m, v = [0.0] * len(w), [0.0] * len(w)
    for t, g in enumerate(gradients, start=1):
        m = [beta1 * a + (1 - beta1) * b for a, b in zip(m, g, strict=True)]
        v = [beta2 * a + (1 - beta2) * b * b for a, b in zip(v, g, strict=True)]
        u = []
        for i in range(len(w)):
            first, second = m[i] / (1 - beta1**t), v[i] / (1 - beta2**t)
            u.append(first / (second**0.5 + eps) + decay * w[i])
        ratio = norm(w) / norm(u) if adapt and norm(w) > 0 and norm(u) > 0 else 1.0
        w = [a - lr * ratio * b for a, b in zip(w, u, strict=True)]
    return w


@pytest.mark.parametrize(
    ("kind", "loop", "options"),
    [(LARS, lars, {"momentum": 0.9}), (LAMB, lamb, {"betas": (0.9, 0.99)})],
    ids=["lars", "lamb"],
)
def test_they_do_what_slow_loops_do(kind, loop, options):
    tensors, gradients = problem()
    found = run(kind, tensors, gradients, **options)
    for i, (decay, adapt) in enumerate([(0.1, True), (0.0, False), (0.1, True)]):
        steps = [g[i].double().flatten().tolist() for g in gradients]
        expected = loop(tensors[i].double().flatten().tolist(), steps, decay, adapt)
        got = found[i].detach().double().flatten().tolist()
        assert got == pytest.approx(expected, rel=1e-5, abs=1e-6)
