import pytest

from medssl.config import load
from medssl.errors import MedsslError
from medssl.studies.cells import NOT_PRETRAINED, Cell, Record, Records, amount, plan
from medssl.studies.settings import Study

TASK = {"kind": "classification", "frozen": [0.5, 1.0], "finetuned": [0.5]}
DATA = {"folder": "f", "encoders": {"unet": {}, "vit": {}}, "passes": 8, "tasks": {"a": TASK}}


def study(**values):
    return load(Study, values={"seeds": 2, "data": {"one": DATA}, **values})


def test_controls_and_methods_of_one_seed_come_before_the_next():
    cells = plan(study(), {"one": {"simclr": "unet", "mae": "vit"}})
    assert [c.seed for c in cells] == sorted(c.seed for c in cells)
    first = [(c.kind, c.method, c.encoder) for c in cells if c.seed == 0]
    assert first == [
        ("frozen", "random", "unet"),
        ("fine-tuned", "scratch", "unet"),
        ("frozen", "random", "vit"),
        ("fine-tuned", "scratch", "vit"),
        ("pretraining", "simclr", "unet"),
        ("frozen", "simclr", "unet"),
        ("fine-tuned", "simclr", "unet"),
        ("pretraining", "mae", "vit"),
        ("frozen", "mae", "vit"),
        ("fine-tuned", "mae", "vit"),
    ]
    assert len({c.name for c in cells}) == len(cells)


def test_numbers_and_shares_of_labels_differ():
    assert (amount(1), amount(1.0), amount(0.01)) == ("1", "100 %", "1 %")
    names = {Cell("fine-tuned", "d", "mae", "unet", 0, "t", n).name for n in (1, 1.0)}
    assert len(names) == 2


def test_a_cell_is_kept_and_not_taken_for_another(tmp_path):
    records, cell = Records(tmp_path), Cell("frozen", "d", "mae", "unet", 0, "t")
    assert records.read(cell, {"lr": 1}) is None
    found = Record([cell.row("knn", "1 %", "auroc", 0.5)], 1.0)
    records.write(cell, {"lr": 1}, found)
    assert records.read(cell, {"lr": 1}) == found
    assert records.table()["value"].tolist() == [0.5]
    with pytest.raises(MedsslError, match="RESUME_MISMATCH"):
        records.read(cell, {"lr": 2})


def test_what_failed_is_listed_and_what_hangs_on_it_is_not(tmp_path):
    records, cell = Records(tmp_path), Cell("pretraining", "d", "mae", "unet", 0)
    records.write(cell, {}, Record([], 1.0, "TRAINING_COLLAPSED"))
    probed = Cell("frozen", "d", "mae", "unet", 0, "t")
    records.write(probed, {}, Record([], 0.0, NOT_PRETRAINED))
    assert records.failures() == {cell.name: "TRAINING_COLLAPSED"}


def test_selecting_by_name():
    assert study(method="mae").methods() == ["mae"]
    assert "simclr" in study().methods()
    assert study(tasks="a").selected()
    with pytest.raises(MedsslError, match="There are: a"):
        study(tasks=["b"]).selected()
    with pytest.raises(MedsslError, match="METHOD_UNKNOWN"):
        study(method=["nothing"]).methods()


def test_a_study_may_grow_but_not_change():
    own = {**DATA, "methods": {"mae": {"lr": 0.1}}}
    assert study(method="mae", tasks="a").fixed() == study(seeds=5).fixed()
    assert study(data={"one": own}).fixed() == study().fixed()
    assert study(data={"one": {**DATA, "passes": 9}}).fixed() != study().fixed()


@pytest.mark.parametrize(
    "task",
    [{"kind": "segmentation", "frozen": [1.0]}, {"kind": "classification", "frozen": [1.5]}],
)
def test_tasks_that_cannot_be_done_are_refused(task):
    with pytest.raises(MedsslError, match="CONFIG_INVALID"):
        study(data={"one": {**DATA, "tasks": {"a": task}}})
