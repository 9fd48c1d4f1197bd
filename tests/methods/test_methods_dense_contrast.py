from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from method_cases import crops, make

from medssl.views import distances


def unit(rows):
    return F.normalize(rows, dim=-1)


def by_hand(method, batch, far=None):
    """The losses of whole views and of cells by loops, the network's outputs given."""
    views = method.mapped_views(batch)
    q, k = method.embed_cells(views), method.taught(views)
    whole = dense = 0.0
    for one, other in ((0, 1), (1, 0)):
        match = method.partners(views[one], views[other], q[one], k[other])
        apart = distances(method.cells(views[one]), method.cells(views[other]))
        shown = method.cells(views[other]).inside
        for b in range(len(batch)):
            rivals = [j for j in range(len(batch)) if batch.subject[j] != batch.subject[b]]
            rest = [unit(k[other].whole[j]) for j in rivals]
            whole += nce(q[one].whole[b], k[other].whole[b], rest)
            means = [unit(k[other].cells[j].mean(0)) for j in rivals]
            losses = []
            for p in range(len(q[one].cells[b])):
                if match.valid[b, p]:
                    near = [] if far is None else [
                        unit(k[other].cells[b, c])
                        for c in range(len(apart[b, p]))
                        if apart[b, p, c] > far and shown[b, c]
                    ]  # fmt: skip
                    key = k[other].cells[b, match.index[b, p]]
                    losses.append(nce(q[one].cells[b, p], key, means + near))
            dense += sum(losses) / len(losses)
    return whole / len(batch) / 2, dense / len(batch) / 2


def nce(query, key, rest, temperature=0.5):
    shares = [math.exp(float(unit(query) @ unit(row)) / temperature) for row in (key, *rest)]
    return -math.log(shares[0] / sum(shares))


def shaken(**options):
    method = make("dense_contrast", temperature=0.5, level=-1, **options).eval()
    with torch.no_grad():
        for parameter in method.teacher.parameters():
            parameter.mul_(1.1)
    return method


@pytest.mark.parametrize("correspondence", ["geometry", "features"])
@pytest.mark.parametrize("far", [None, 6.0])
def test_it_is_the_papers_losses_in_both_directions(correspondence, far):
    method = shaken(far=far, correspondence=correspondence, dense=0.3)
    batch = crops()
    batch = replace(batch, subject=torch.tensor([3, 5, 3, 7]))
    with torch.no_grad():
        step = method.step(batch)
        whole, dense = by_hand(method, batch, far)
    torch.testing.assert_close(float(step.logs["whole"]), whole, rtol=1e-4, atol=0)
    torch.testing.assert_close(float(step.logs["dense"]), dense, rtol=1e-4, atol=0)
    torch.testing.assert_close(float(step.loss), 0.7 * whole + 0.3 * dense, rtol=1e-4, atol=0)


def test_by_features_the_partner_is_the_most_alike():
    method, batch = shaken(correspondence="features"), crops()
    views = method.mapped_views(batch)
    (q, _), (_, k) = method.embed_cells(views), method.taught(views)
    found = method.partners(*views, q, k)
    cosines = F.cosine_similarity(q.local[:, :, None], k.local[:, None], dim=3)
    assert torch.equal(found.index, cosines.argmax(2))
    assert found.valid.all()


def test_earlier_crops_of_other_subjects_are_negatives():
    method, batch = shaken(queue=8), crops()
    plain = shaken(queue=0)
    with torch.no_grad():
        first = method.step(batch)  # nothing is in the queue yet
        torch.testing.assert_close(first.loss, plain.step(batch).loss)
        assert float(first.trivial_loss) == pytest.approx(math.log(1 + 3))
        taught = method.taught(method.mapped_views(batch))[0]
        rows = torch.cat((unit(taught.whole), unit(taught.cells.mean(1))), dim=1)
        torch.testing.assert_close(method.queue.rows[-4:], rows)
        assert method.queue.subject[-4:].tolist() == batch.subject.tolist()
        again = method.step(batch)
        others = method.step(replace(batch, subject=batch.subject + 100))
    assert float(first.loss) + 0.1 < float(again.loss) < float(others.loss) - 0.1
    assert float(again.trivial_loss) == pytest.approx(math.log(1 + 3 + 3))
    assert float(others.trivial_loss) == pytest.approx(math.log(1 + 3 + 8))


@pytest.mark.parametrize("far", [None, 6.0])
def test_the_loss_of_a_network_that_gives_all_the_same_is_known(far):
    method = make("dense_contrast", far=far)
    heads = [method.projector, method.dense_projector.mlp]
    heads += [method.teacher.module.whole, method.teacher.module.cells.mlp]
    with torch.no_grad():
        for head in heads:
            head[-1].weight.zero_()
            head[-1].bias.fill_(1.0)
    batch = replace(crops(), subject=torch.tensor([3, 5, 3, 7]))
    step = method.step(batch)
    torch.testing.assert_close(step.loss.detach(), step.trivial_loss)


def test_a_batch_of_one_subject_is_told_apart_by_places_alone():
    batch = replace(crops(), subject=torch.zeros(4, dtype=torch.int64))
    step = make("dense_contrast").step(batch)
    assert float(step.loss.detach()) == 0.0
    far = make("dense_contrast", far=4.0).step(batch)
    assert float(far.logs["whole"]) == 0.0
    assert float(far.logs["dense"]) > 0.1
