"""The report up to the encoder: patients, ingest, pretraining, frozen features."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medssl.demo import pictures, plots
from medssl.drawing.page import Block, Note, Picture, Section, Table

if TYPE_CHECKING:
    from medssl.demo.run import Gathered


def patients_section(gathered: Gathered) -> Section:
    """Who the patients are, what each was used for, and what they look like."""
    patients = gathered.patients
    torsos, heads = patients.of("CT"), patients.of("MR")
    rows = []
    for name, group in (("Torso, CT", torsos), ("Head, T1-weighted MR", heads)):
        counts = [
            sum(patients.split[phantom.patient_id] == split for phantom in group)
            for split in ("train", "validation", "test")
        ]
        grid = " × ".join(str(n) for n in group[0].image.shape[1:])
        size = " × ".join(f"{step:g}" for step in group[0].spacing)
        rows.append([name, f"{grid} voxels of {size} mm", *map(str, counts)])
    return Section(
        "patients",
        "Synthetic patients",
        [
            "The patients are drawn from formulas; no person was scanned. Organs vary in shape, "
            "position, size and texture from patient to patient, and each patient has at least one "
            "small lesion. Head scans are angled, as real ones are.",
            Table(
                ["Anatomy", "Grid", "Training", "Validation", "Held out"],
                rows,
                "Patients by use. Held-out and validation patients were never trained on, neither "
                "with nor without labels.",
                2,
            ),
            Picture(
                pictures.gallery(torsos[:2]),
                "Two torso patients, CT in Hounsfield units. Here and below, images follow the "
                "radiological convention: the patient's right (R) is on the left of axial and "
                "coronal slices, and the front (A) is on the left of sagittal slices.",
                "Axial, coronal and sagittal slices of two synthetic torsos",
            ),
            Picture(
                pictures.gallery(heads[:2]),
                "Two head patients, T1-weighted MR in arbitrary units.",
                "Axial, coronal and sagittal slices of two synthetic heads",
            ),
        ],
    )


def ingest_section(gathered: Gathered) -> Section:
    """What became of every input file."""
    rows = []
    for name, summary in gathered.ingested.items():
        kind = "DICOM, all patients" if name == "scans" else "NIfTI with label maps, torsos"
        for (outcome, code), count in summary.counts.items():
            words = f"{outcome} ({code})" if code else outcome
            rows.append([kind, words, str(count)])
        rows.append([kind, "found in all", str(summary.found)])
    totals = [i for i, row in enumerate(rows) if row[1] == "found in all"]
    return Section(
        "ingest",
        "Ingest",
        [
            "Every file found ends in the ledger with an outcome, and the counts add up to the "
            "files found. Patient names, IDs and UIDs become pseudonyms by a keyed hash.",
            Table(["Input", "Outcome", "Files"], rows, "The ledgers of both stores.", 2, totals),
        ],
    )


def pretraining_section(gathered: Gathered) -> Section:
    """The loss, and reconstructions of held-out patients."""
    result, settings = gathered.pretrained, gathered.settings
    assert result is not None
    points = [(row["step"], row["loss"]) for row in result.history.rows if "loss" in row]
    blocks: list[Block] = [
        f"A convolutional U-Net saw {len(result.subjects)} training patients, CT and MR together, "
        "without labels. In every crop most of the image is hidden, and the network learns to "
        f"reconstruct it (masked autoencoding, {settings.pretrain_steps} steps).",
        Note(
            "Validation and held-out patients were left out of pretraining. The bundle carries "
            "salted hashes of the patients it has seen, and fine-tuning and evaluation refuse to "
            "test on any of them."
        ),
        Picture(
            plots.pretraining_curve(points, "Mean squared error, hidden voxels"),
            "Pretraining loss: squared error of the hidden voxels in units of the volume's own "
            "variance.",
            "Loss over steps",
            dark=False,
        ),
    ]
    for item in gathered.reconstructions:
        blocks.append(
            Picture(
                pictures.reconstructions(item),
                f"Reconstruction of a held-out {item.modality} patient, never seen in training. "
                "Visible cells are shown as they are; hidden cells are reconstructed. The "
                f"reconstruction explains {100 * item.explained:.0f} % of the variance of the "
                "hidden voxels.",
                f"Masked input, reconstruction and original of a {item.modality} volume",
            )
        )
    return Section("pretraining", "Pretraining without labels", blocks)


def features_section(gathered: Gathered) -> Section:
    """Probes of the frozen encoder against random weights."""
    result = gathered.evaluation
    assert result is not None
    means = result.probes.groupby(["probe", "arm"])["auroc"].mean()
    rows = []
    for probe, name in (("linear", "Linear probe"), ("knn", "k nearest neighbours")):
        arms = [float(means[probe, arm]) for arm in ("random", "pretrained")]
        rows.append([name, *(f"{value:.3f}" for value in arms), f"{arms[1] - arms[0]:+.3f}"])
    rank = result.rank
    return Section(
        "features",
        "What the frozen encoder knows",
        [
            "Before any fine-tuning, a simple classifier reads the organ at single voxels from the "
            f"encoder's frozen features, trained on {result.subjects['train']} labelled patients "
            f"and tested on {result.subjects['test']} held out. The same network with random "
            "weights is the control: what it reaches is due to the architecture and to local "
            "intensity alone.",
            Table(
                ["Probe", "Random weights", "Pretrained", "Difference"],
                rows,
                "AUROC of voxel classes on held-out patients: 0.5 is chance, 1 is perfect. One "
                "draw of random weights.",
            ),
            f"Effective rank of the volumes' pooled features (RankMe, at most {result.rank_limit} "
            f"here): {rank['pretrained']:.2f} pretrained, {rank['random']:.2f} with random "
            "weights. With so few volumes of one anatomy it stays low in any network; it begins "
            "to tell something with hundreds.",
        ],
    )
