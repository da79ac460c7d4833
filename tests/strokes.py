"""Ten classes of random strokes in the files of MNIST, for experiments on digits: whoever runs the tests has them."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np

import redunet as rn


def write_mnist(folder, part, images, labels):
    """Images and labels in the files of one part of MNIST."""
    for name, values in ((f"{part}-images-idx3-ubyte", images), (f"{part}-labels-idx1-ubyte", labels)):
        head = bytes([0, 0, 8, values.ndim]) + b"".join(n.to_bytes(4, "big") for n in values.shape)
        (folder / name).write_bytes(head + values.astype(np.uint8).tobytes())


def write_strokes(folder):
    """40 training and 20 test images of each class, 28 x 28; the folder."""
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:28, :28]
    joints = random.uniform(6, 22, (10, 4, 2))
    along = np.linspace(0, 1, 12)[:, None]
    for part, per_class in (("train", 40), ("t10k", 20)):
        labels = np.arange(10 * per_class) % 10
        images = np.zeros((len(labels), 28, 28))
        for image, label in zip(images, labels, strict=True):
            corners = joints[label] + random.normal(0, 0.7, (4, 2))
            for start, end in pairwise(corners):
                for row, column in start + along * (end - start):
                    np.maximum(image, 255 * np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 2), out=image)
        write_mnist(folder, part, images, labels)
    return folder


def check_report(made, folder):
    """Everything is written, and every row of a table has the same columns."""
    made.save(folder)
    content = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert content["experiment"] == made.name
    assert content["machine"]["redunet"] == rn.__version__
    assert content["tables"]
    for rows in made.tables.values():
        assert len({tuple(row) for row in rows}) == 1
    text = (folder / "report.md").read_text(encoding="utf-8")
    assert "nan" not in text
    for name in made.figures:
        assert (folder / f"{name}.png").stat().st_size > 5000
        assert f"({name}.png)" in text
    for rows in (rows for title, rows in made.tables.items() if "against shifted copies" in title):
        assert all(row["same answers"] == 1 for row in rows)
