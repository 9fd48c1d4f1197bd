from __future__ import annotations

import torch
from method_cases import crops, make

from medssl.losses import NTXent
from medssl.networks import pooled


def test_it_is_nt_xent_of_two_views():
    method = make("simclr", temperature=0.5).eval()
    first, second = method.views(crops())
    assert not torch.equal(first, second)
    z = [method.projector(pooled(method.encoder(view))) for view in (first, second)]
    step = method.step(crops())
    torch.testing.assert_close(step.loss, NTXent(0.5)(*z))
