from __future__ import annotations

import pytest
import torch
from method_cases import crops, make


@pytest.mark.parametrize("encoder", ["unet", "vit"])
def test_it_scores_replaced_voxels_only(encoder):
    method, batch = make("gmml", encoder), crops()
    made = method.reconstruct(batch)
    assert torch.equal(made.given[~made.mask], made.image[~made.mask])
    assert (made.given != made.image)[made.mask].all()
    error = (made.prediction - made.image).abs()
    means = [error[b][made.mask[b]].mean() for b in range(4)]
    torch.testing.assert_close(method.step(batch).loss, torch.stack(means).mean())


def test_previews_put_the_reconstruction_where_something_was_replaced():
    method = make("gmml", dims=3)
    made, shown = method.reconstruct(crops(dims=3)), method.preview(crops(dims=3))
    assert list(shown) == ["original", "masked", "reconstruction"]
    assert torch.equal(shown["masked"], made.given)
    assert torch.equal(shown["reconstruction"][~made.mask], made.image[~made.mask])
    assert torch.equal(shown["reconstruction"][made.mask], made.prediction[made.mask])
