from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from method_cases import crops, make

from medssl.bundle import Architecture, Bundle, BundleSpec, EncoderSpec, InputContract
from medssl.networks import PlaceEmbedding, build_encoder
from medssl.views import upsample_mask

MIM = {"cls_weight": 0.0, "patch_weight": 0.0}


def cross_entropy(student, teacher, temperatures):
    """-sum P log Q of every row, in float64 with loops."""
    found = []
    for s, t in zip(student.double().tolist(), teacher.double().tolist(), strict=True):
        raised = [math.exp(x / temperatures[0]) for x in t]
        scale = sum(math.exp(x / temperatures[1]) for x in s)
        rows = zip(raised, s, strict=True)
        found.append(
            -sum(r / sum(raised) * (x / temperatures[1] - math.log(scale)) for r, x in rows)
        )
    return found


def parts_of(method, batch):
    """The views, masks and outputs of a step, made again."""
    images = torch.cat(method.views(batch))
    mask = method._masks(batch)
    seen = method.student(images, mask)
    taught = method.teacher(images, queries=seen.queries.detach())
    return images, mask, seen, taught


@pytest.mark.parametrize("encoder", ["unet", "vit"])
@pytest.mark.parametrize("dims", [2, 3])
def test_the_loss_is_the_sum_of_its_three_parts_by_hand(encoder, dims):
    options = {"cls_weight": 0.7, "patch_weight": 0.3, "rec_weight": 4.0, "tolerance": 1.0}
    method = make("alice", encoder, dims, **options)
    batch = replace(crops(6, dims), subject=torch.tensor([0, 1, 2, 2, 3, 4]))
    step = method.step(batch)
    images, mask, seen, taught = parts_of(method, batch)
    weight = method._pairing(batch).weight
    assert weight.tolist() == [1, 1, 0, 0, 1, 1]
    # The teacher of the one patient teaches the student of the other; centres begin at 0.
    crossed = taught.overall.roll(6, 0)
    rows = cross_entropy(seen.overall, crossed, (method._config.temperature(0.0), 0.1))
    cls = sum(w * r for w, r in zip(weight.repeat(2).tolist(), rows, strict=True))
    cls /= 2 * float(weight.sum())
    tokens = cross_entropy(seen.local, taught.local, (method._config.temperature(0.0), 0.1))
    patch = sum(tokens) / len(tokens)
    hidden = upsample_mask(mask, images.shape[2:])
    rec = ((seen.image - images) ** 2)[hidden].double().mean() / 2
    wanted = 0.7 * cls + 0.3 * patch + 4 * rec.item()
    assert step.loss.item() == pytest.approx(wanted, rel=1e-4)
    got = [float(step.logs[name]) for name in ("cls_loss", "patch_loss", "rec_loss", "pairs")]
    assert got == pytest.approx([cls, patch, rec.item(), float(weight.mean())], rel=1e-4)


def test_masked_modelling_alone_has_no_teacher():
    method = make("alice", **MIM)
    names = {name.split(".")[0] for name in method.state_dict()}
    assert method.teacher is None
    assert names == {"student"}
    step = method.step(crops())
    assert step.loss.item() == pytest.approx(10 * float(step.logs["rec_loss"]))
    assert step.positives is None
    method.after_update(0.5)


def test_each_part_can_be_left_out():
    for name, module in (("cls_weight", "overall"), ("patch_weight", "local")):
        method = make("alice", **{name: 0.0})
        assert getattr(method.student, module) is None
        assert name.replace("weight", "loss") not in method.step(crops()).logs
    step = make("alice", rec_weight=0.0).step(crops())
    parts = step.logs["cls_loss"] + step.logs["patch_loss"]
    assert step.loss.item() == pytest.approx(parts.item(), rel=1e-5)


def test_without_casa_tokens_are_compared_place_by_place():
    method = make("alice", casa=False)
    assert method.student.casa is None
    _, _, seen, _ = parts_of(method, crops())
    assert seen.local.shape == (2 * 4 * 4, 32)  # views, cells, prototypes


def test_the_teachers_tokens_are_asked_with_the_students_queries():
    method, batch = make("alice"), crops()
    images, _, seen, taught = parts_of(method, batch)
    own = method.teacher(images)
    assert not torch.allclose(own.local, taught.local)
    assert torch.equal(own.overall, taught.overall)
    assert torch.equal(method.teacher(images, queries=seen.queries).local, taught.local)


def test_the_student_sees_nothing_of_what_is_hidden_and_the_teacher_everything():
    method, batch = make("alice").eval(), crops()
    images, mask, seen, taught = parts_of(method, batch)
    changed = torch.where(upsample_mask(mask, images.shape[2:]), images + 3.0, images)
    again = method.student(changed, mask)
    assert torch.equal(again.overall, seen.overall)
    assert torch.equal(again.local, seen.local)
    assert not torch.allclose(method.teacher(changed).overall, taught.overall)


def test_masks_hide_cells_and_not_columns_and_differ_between_the_views():
    method = make("alice", dims=3, side=16, mask_cell=4)
    mask = method._masks(crops(8, 3))
    assert (mask.flatten(1).sum(1) == round(0.6 * 8)).all()
    first, second = mask.chunk(2)
    assert not torch.equal(first, second)
    assert not torch.equal(mask[..., :1].expand_as(mask), mask)


def test_pairs_of_one_subject_teach_nothing_between_them():
    batch = replace(crops(), subject=torch.zeros(4, dtype=torch.int64))
    method = make("alice", patch_weight=0.0, rec_weight=0.0)
    step = method.step(batch)
    assert step.loss.item() == 0.0
    step.loss.backward()
    assert not any(p.grad.any() for p in method.student.overall.parameters())


def test_where_pairs_are_is_the_option_alone():
    """Arms begin with the same weights and draw the same first places, masks and intensities."""
    made = {name: make("alice", alignment=name) for name in ("position", "random", "displaced")}
    states = [m.state_dict() for m in made.values()]
    assert all(torch.equal(states[0][k], s[k]) for s in states for k in states[0])
    firsts, seconds = zip(*(m.views(crops()) for m in made.values()), strict=True)
    assert torch.equal(firsts[0], firsts[2])
    assert not torch.equal(seconds[0], seconds[1])
    assert not torch.equal(seconds[0], seconds[2])
    assert all(
        torch.equal(m._masks(crops()), made["random"]._masks(crops())) for m in made.values()
    )


def test_the_teacher_follows_and_gets_no_gradient():
    method = make("alice", momentum=0.75)
    method.step(crops()).loss.backward()
    assert not any(p.requires_grad for p in method.teacher.parameters())
    name = next(n for n, _ in method.student.named_parameters() if n.endswith("weight"))
    own, taught = method.student.get_parameter(name), method.teacher.module.get_parameter(name)
    before = taught.detach().clone()
    with torch.no_grad():
        own += 1.0
    method.after_update(0.0)
    torch.testing.assert_close(taught, before + 0.25)
    method.after_update(1.0)
    torch.testing.assert_close(taught, before + 0.25)


def test_prototypes_stand_still_at_first_and_centres_are_state():
    method = make("alice", freeze=0.5)
    for progress, moved in ((0.2, False), (0.6, True)):
        method.progress = progress
        method.zero_grad()
        method.step(crops()).loss.backward()
        heads = (method.student.overall[-1], method.student.local[-1])
        assert [bool(head.weight.grad.any()) for head in heads] == [moved, moved]
    state = method.state_dict()
    assert state["_cls_loss.centre"].any()
    assert state["_patch_loss.centre"].any()


def embedding_bundle(path, dims=2):
    """A bundle of an embedding that was not trained."""
    torch.manual_seed(1)
    options = {"widths": [4, 8]}
    network = PlaceEmbedding(build_encoder("unet", dims, 1, **options), dim=8, width=4)
    spec = BundleSpec(
        kind="encoder",
        architecture=Architecture(
            encoder=EncoderSpec(name="unet", dims=dims, options=options),
            embedding={"dim": 8, "fine_stride": 2, "width": 4},
        ),
        contract=InputContract(dims=dims, patch_size=[16] * dims),
    )
    return Bundle.save(path, network, spec)


def test_an_embedding_is_frozen_and_no_part_of_the_state(tmp_path):
    path = embedding_bundle(tmp_path / "places").path
    options = {"alignment": "embedding", "embedding": str(path), "score": -1.0}
    method, plain = make("alice", **options), make("alice")
    assert set(method.state_dict()) == set(plain.state_dict())
    assert all(torch.equal(v, plain.state_dict()[k]) for k, v in method.state_dict().items())
    assert len(list(method.parameters())) == len(list(plain.parameters()))
    step = method.step(crops())
    step.loss.backward()
    assert -1 <= float(step.logs["score"]) <= 1
    assert float(step.logs["pairs"]) == 1.0
    strict = make("alice", **{**options, "score": 1.0}).step(crops())
    assert float(strict.logs["pairs"]) == 0.0
    displaced = make("alice", **{**options, "alignment": "displaced"})
    assert not torch.equal(displaced.views(crops())[1], method.views(crops())[1])


def test_previews_show_both_patients():
    shown = make("alice").preview(crops())
    assert list(shown) == [
        f"{who}, {what}"
        for what in ("original", "masked", "reconstruction")
        for who in ("a patient", "another")
    ]
    one, other = shown["a patient, original"], shown["another, original"]
    torch.testing.assert_close(one.flatten(1).mean(1), other.flatten(1).mean(1))
    hidden = shown["a patient, masked"] != shown["a patient, original"]
    same = shown["a patient, reconstruction"] == shown["a patient, original"]
    assert (hidden | same).all()
    assert make("alice", target="hog").preview(crops())["another, target"].isfinite().all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"view_size": [24, 8]}, "do not lie in crops"),
        ({"view_size": [7, 8]}, "whole number of cells"),
        ({"alignment": "displaced", "view_size": [12, 12]}, "crops of twice the view"),
        ({"alignment": "embedding"}, "needs the bundle of one"),
        ({"embedding": "somewhere"}, "uses no embedding"),
        ({**MIM, "rec_weight": 0.0}, "one of the three weights"),
        ({"casa_heads": 3}, "do not divide"),
    ],
)
def test_refusals(options, words):
    with pytest.raises(ValueError, match=words):
        make("alice", **options)


def test_an_embedding_of_other_dimensions_is_refused(tmp_path):
    path = str(embedding_bundle(tmp_path / "places", dims=3).path)
    with pytest.raises(ValueError, match="reads 3D images"):
        make("alice", alignment="embedding", embedding=path)


def test_one_crop_alone_has_no_partner():
    with pytest.raises(ValueError, match="at least two crops"):
        make("alice").step(crops(1))
