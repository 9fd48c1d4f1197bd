from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from medssl.evaluate.knn import knn_scores


def loop_scores(train, labels, queries, classes, k, temperature):
    rows = []
    for q in queries.double():
        cosines = []
        for feature, label in zip(train.double(), labels.tolist(), strict=True):
            cosines.append((float(q @ feature / (q.norm() * feature.norm())), label))
        votes = [0.0] * classes
        for cosine, label in sorted(cosines, reverse=True)[:k]:
            votes[label] += math.exp(cosine / temperature)
        rows.append([v / sum(votes) for v in votes])
    return torch.tensor(rows, dtype=torch.float64)


def test_matches_float64_loops_in_any_chunking():
    generator = torch.Generator().manual_seed(0)
    train, queries = torch.randn(40, 6, generator=generator), torch.randn(9, 6, generator=generator)
    labels = torch.randint(0, 3, (40,), generator=generator)
    expected = loop_scores(train, labels, queries, 3, 20, 0.07)
    for chunk in (2, 100):
        found = knn_scores(train, labels, queries, 3, chunk=chunk)
        torch.testing.assert_close(found.double(), expected, atol=1e-4, rtol=1e-4)


def test_agrees_with_scikit_learn():
    neighbours = pytest.importorskip("sklearn.neighbors")
    generator = torch.Generator().manual_seed(1)
    train, queries = (
        torch.randn(60, 5, generator=generator),
        torch.randn(30, 5, generator=generator),
    )
    labels = torch.randint(0, 4, (60,), generator=generator)
    oracle = neighbours.KNeighborsClassifier(
        10, metric="cosine", weights=lambda distance: np.exp((1 - distance) / 0.07)
    ).fit(train.numpy(), labels.numpy())
    found = knn_scores(train, labels, queries, 4, k=10)
    expected = torch.from_numpy(oracle.predict_proba(queries.numpy()))
    torch.testing.assert_close(found.double(), expected, atol=1e-4, rtol=1e-4)


def test_fewer_training_features_than_k():
    scores = knn_scores(torch.eye(2), torch.tensor([0, 1]), torch.tensor([[1.0, 0.0]]), 3)
    assert scores.argmax().item() == 0
    assert scores.sum().item() == pytest.approx(1)


@pytest.mark.parametrize(
    ("train", "labels", "queries"),
    [
        (torch.zeros(0, 3), torch.zeros(0), torch.zeros(1, 3)),
        (torch.ones(2, 3), torch.zeros(1), torch.zeros(1, 3)),
        (torch.ones(2, 3), torch.zeros(2), torch.zeros(1, 4)),
    ],
)
def test_shapes_that_do_not_fit_are_refused(train, labels, queries):
    with pytest.raises(ValueError, match="must be"):
        knn_scores(train, labels, queries, 2)
