"""Images of known segments, and the reader of BSDS500, on a small data set in its format."""

from __future__ import annotations

import numpy as np
import pytest

from redunet import experiments
from redunet.experiments import bsds, mosaics, segments

pytest.importorskip("skimage")
pytest.importorskip("matplotlib")
io = pytest.importorskip("scipy.io")


@pytest.mark.parametrize("kind", mosaics.KINDS)
def test_mosaics_have_the_segments_that_they_say(kind):
    """Each of the true segments is there, and what the mean colour of each says covers them better than chance."""
    shape = (81, 121)
    for seed in range(4):
        image, truth = mosaics.mosaic(kind, seed, shape)
        assert image.dtype == np.uint8
        assert image.shape == (*shape, 3)
        assert truth.shape == shape
        assert set(np.unique(truth)) == set(range(truth.max() + 1))
        assert 2 <= truth.max() + 1 <= 8
        means = np.stack([image[truth == k].mean(axis=0) for k in range(truth.max() + 1)])
        nearest = np.linalg.norm(image[:, :, None] - means, axis=3).argmin(axis=2)
        assert (nearest == truth).mean() > 1.5 * np.bincount(truth.ravel()).max() / truth.size or kind == "gradients"
        again, _ = mosaics.mosaic(kind, seed, shape)
        np.testing.assert_array_equal(again, image)
    assert not np.array_equal(mosaics.mosaic(kind, 0, shape)[0], mosaics.mosaic(kind, 1, shape)[0])


@pytest.mark.parametrize("name", mosaics.OUTLINES)
def test_outlines_lie_on_edges(name):
    """As drawn they part colours better than where they are moved by a tenth of the image, on average."""
    image, truth = mosaics.photograph(name, 100)
    assert truth.shape == image.shape[:2]
    assert len(np.unique(truth)) == 1 + len(mosaics.OUTLINES[name])
    values = image.reshape(*truth.shape, -1) / 255.0

    def within(labels):
        return sum(values[labels == k].var(axis=0).sum() * (labels == k).sum() for k in np.unique(labels))

    moved = [within(np.roll(truth, step, axis)) for axis in (0, 1) for step in (-10, 10)]
    assert within(truth) < np.mean(moved)


def write_bsds(folder, part, people):
    """Three photographs of two colours, with the segments that people see in them."""
    from PIL import Image

    (folder / "images" / part).mkdir(parents=True)
    (folder / "groundTruth" / part).mkdir(parents=True)
    for number in (3, 20, 100):
        truth = (np.arange(60) >= 10 + number // 4).astype(np.uint16) + np.zeros((40, 1), np.uint16)
        image = np.array([[200, 60, 40], [30, 90, 160]], np.uint8)[truth]
        Image.fromarray(image).save(folder / "images" / part / f"{number}.jpg", quality=95)
        cells = np.empty((1, people), object)
        for person in range(people):
            seen = truth + 1 + (person == 1) * (np.arange(40)[:, None] >= 20).astype(np.uint16) * 2
            cells[0, person] = {"Segmentation": seen.astype(np.uint16), "Boundaries": np.zeros((40, 60), np.uint8)}
        io.savemat(folder / "groundTruth" / part / f"{number}.mat", {"groundTruth": cells})


@pytest.mark.parametrize("below", [".", "BSDS500/data", "BSR/BSDS500/data"])
def test_the_data_set_is_read_wherever_it_was_unpacked(tmp_path, below):
    write_bsds(tmp_path / below, "test", people=2)
    found = list(bsds.photographs(tmp_path, "test"))
    assert [one.name for one in found] == ["100", "20", "3"]
    for one in found:
        assert one.image.shape == (40, 60, 3)
        assert one.truths.shape == (2, 40, 60)
        assert [len(np.unique(truth)) for truth in one.truths] == [2, 4]
    assert len(list(bsds.photographs(tmp_path, "test", 1))) == 1


def test_what_is_missing_or_none(tmp_path):
    with pytest.raises(experiments.DataMissing, match=r"holds no images/test/\*\.jpg; expected the folder of BSDS500"):
        next(bsds.photographs(tmp_path, "test"))
    write_bsds(tmp_path, "test", people=1)
    truth = tmp_path / "groundTruth" / "test" / "100.mat"
    with pytest.raises(ValueError, match=r"100\.mat has segmentations of shape \(40, 60\); expected \(9, 9\), as its"):
        bsds.truths(truth, (9, 9))
    io.savemat(truth, {"other": np.zeros(3)})
    with pytest.raises(ValueError, match=r"100\.mat is no ground truth of BSDS500"):
        next(bsds.photographs(tmp_path, "test"))
    truth.unlink()
    with pytest.raises(experiments.DataMissing, match=r"100\.mat is missing; expected the ground truth of 100\.jpg"):
        next(bsds.photographs(tmp_path, "test"))


def test_the_experiment_reports_the_data_set(tmp_path, monkeypatch):
    """Rows of its own, after those of mosaics and photographs, of which here there is one each."""
    monkeypatch.setattr(mosaics, "KINDS", ("flat",))
    for name in ("CHOICE_PHOTOGRAPHS", "HELD_OUT_PHOTOGRAPHS"):
        monkeypatch.setattr(segments, name, ("coins",))
    write_bsds(tmp_path, "test", people=2)
    made = experiments.run("segmentation", experiments.Options(n_test=2, bsds=tmp_path))
    rows = made.tables["BSDS500, test"]
    assert rows[0]["method"] == "coding length, auto"
    assert len(rows) == 5
    for row in rows:
        assert 0.5 < float(row["covering"].split()[0]) <= 1
    chosen = [row for row in made.tables["Choice of settings: mean covering"] if row["chosen"]]
    assert len(chosen) == 3
