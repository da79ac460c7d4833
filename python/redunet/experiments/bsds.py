"""The Berkeley segmentation data set, BSDS500, for whoever has it: photographs, and what several people drew.

Its folder holds ``images/{train,val,test}/*.jpg`` and ``groundTruth/{train,val,test}/*.mat``. Such a file has a cell
array ``groundTruth`` of structures, of which ``Segmentation`` (H, W) is one person's label image (Arbelaez, Maire,
Fowlkes and Malik, "Contour detection and hierarchical image segmentation", IEEE TPAMI 33, 2011).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from redunet.experiments.options import DataMissing

#: Where the folders lie in what is unpacked.
BELOW = (".", "data", "BSDS500/data", "BSR/BSDS500/data")


class Photograph(NamedTuple):
    """A photograph of the set.

    Attributes
    ----------
    name : str
        Its number.
    image : (H, W, 3) uint8 array
        RGB.
    truths : (n, H, W) int64 array
        The label images of n people.
    """

    name: str
    image: npt.NDArray[np.uint8]
    truths: npt.NDArray[np.int64]


def photographs(folder: Path, part: str, most: int | None = None) -> Iterator[Photograph]:
    """Of a part, "train", "val" or "test", in the order of their names.

    Raises
    ------
    DataMissing
        If the folder has none, or one of them has no ground truth.
    """
    from skimage.io import imread

    data = next((folder / below for below in BELOW if (folder / below / "images" / part).is_dir()), None)
    files = [] if data is None else sorted((data / "images" / part).glob("*.jpg"))
    if data is None or not files:
        raise DataMissing(f"{folder} holds no images/{part}/*.jpg; expected the folder of BSDS500 (--bsds)")
    for file in files[:most]:
        truth = data / "groundTruth" / part / f"{file.stem}.mat"
        if not truth.is_file():
            raise DataMissing(f"{truth} is missing; expected the ground truth of {file.name}")
        image = np.array(imread(file))
        yield Photograph(file.stem, image, truths(truth, image.shape[:2]))


def truths(file: Path, shape: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """Label images (n, H, W) of a ground truth.

    Raises
    ------
    ValueError
        If the file is none of the data set, or of an image of another shape.
    """
    from scipy.io import loadmat

    try:
        cells: Any = loadmat(file)["groundTruth"].ravel()
        found = np.stack([np.asarray(cell["Segmentation"].item(), np.int64) for cell in cells])
    except Exception as error:
        raise ValueError(f"{file} is no ground truth of BSDS500: {error}") from error
    if found.shape[1:] != shape:
        raise ValueError(f"{file} has segmentations of shape {found.shape[1:]}; expected {shape}, as its image has")
    return found
