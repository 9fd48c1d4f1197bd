from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from method_cases import crops, make

from medssl.networks import pooled
from medssl.views import cell_positions, in_mm
from medssl.views.view import view_spacing


def by_hand(method, batch):
    """The paper's loss by loops over pairs, the network's outputs given."""
    views = method.mapped_views(batch)
    places = [in_mm(view, cell_positions(view, method.grid)).flatten(2) for view in views]
    side = 16 // method.grid[0]
    diagonals = [side * view_spacing(v.theta, v.spacing).square().sum(1).sqrt() for v in views]
    x = [method.dense_projector(method.encoder(view.image)) for view in views]
    y = [method.propagation(rows) for rows in x]
    target = [method.teacher(view.image)[3] for view in views]
    total = 0.0
    for one, other in ((0, 1), (1, 0)):
        for b in range(len(batch)):
            cosines = []
            for p in range(len(y[one][b])):
                for q in range(len(y[one][b])):
                    apart = math.dist(
                        places[one][b, :, p].tolist(), places[other][b, :, q].tolist()
                    )
                    inside = all(
                        -0.5 <= float(c) <= 15.5
                        for at in (places[one][b, :, p], places[other][b, :, q])
                        for c in at
                    )
                    if inside and apart < 0.7 * max(float(d[b]) for d in diagonals):
                        cosines.append(F.cosine_similarity(y[one][b, p], target[other][b, q], 0))
            total -= float(sum(cosines)) / max(1, len(cosines)) / len(batch) / 2
    return total


def test_it_is_the_papers_loss_of_pairs_in_both_directions():
    method = make("pixpro", level=-1).eval()
    with torch.no_grad():
        for parameter in method.teacher.parameters():
            parameter.mul_(1.1)
        step = method.step(crops())
        torch.testing.assert_close(float(step.loss), by_hand(method, crops()), rtol=1e-4, atol=0)
    features = pooled(method.encoder(method.views(crops())[0]))
    torch.testing.assert_close(step.embedding, features)


def test_the_instance_branch_is_byol():
    plain, method = make("pixpro").eval(), make("pixpro", instance=2.0).eval()
    assert not [name for name, _ in plain.named_parameters() if name.startswith("projector")]
    missing = method.load_state_dict(plain.state_dict(), strict=False)
    assert missing.unexpected_keys == []
    with torch.no_grad():
        step = method.step(crops())
        p = [
            method.predictor(method.projector(pooled(method.encoder(view))))
            for view in method.views(crops())
        ]
        z = [method.teacher(view)[1] for view in method.views(crops())]
        cosines = [F.cosine_similarity(p[k], z[1 - k]).mean() for k in range(2)]
        dense = plain.step(crops()).loss
    torch.testing.assert_close(step.logs["dense"], dense)
    torch.testing.assert_close(step.loss, dense - 2 * sum(cosines) / 2)
    method.train().step(crops()).loss.backward()
    assert all(q.grad is not None for q in method.parameters() if q.requires_grad)


def test_a_larger_distance_pairs_more_cells():
    shares = [float(make("pixpro", distance=d).step(crops()).logs["pairs"]) for d in (0.1, 0.7, 3)]
    assert shares == sorted(shares)
    assert shares[0] < shares[1] <= shares[2] <= 1
