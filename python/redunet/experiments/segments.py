"""Segmentation by coding length against felzenszwalb's graph and merging by mean colour, on images of known segments.

What a method leaves to its user is chosen once, on some images, and held to on others: mosaics of other seeds and other
photographs. Metrics are those of redunet.segmentation.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from redunet import plot
from redunet import segmentation as seg
from redunet.experiments import bsds, mosaics, needs
from redunet.experiments.options import Options
from redunet.experiments.report import Report, spread
from redunet.segmentation import superpixels, windows

Array = npt.NDArray[Any]
Segmenter = Callable[[Array], Array]

ROWS, SIDES = 241, (241, 361)
#: Mosaics of each kind; seeds of those that are looked at last are far from the others'.
COUNT, HELD_OUT = 3, 1000
CHOICE_PHOTOGRAPHS, HELD_OUT_PHOTOGRAPHS = ("coffee", "astronaut", "chelsea"), ("rocket", "camera", "coins")
#: Images of little contrast: about middle grey, so many times less.
DIM = 4
BY_RULE = "coding length, auto"


class Case(NamedTuple):
    """An image, where it is from, and its true segments by one or more people, (n, H, W)."""

    source: str
    image: Array
    truths: Array


def _felzenszwalb(scale: float, image: Array) -> Array:
    from skimage.segmentation import felzenszwalb

    return np.asarray(felzenszwalb(image, scale=scale, sigma=0.8, min_size=100))


def _mean_color(threshold: float, image: Array) -> Array:
    """From the same superpixels as ours."""
    return merge_by_mean_color(image, superpixels.superpixels(windows.channels(image, "auto", None), 400), threshold)


def merge_by_mean_color(image: Array, labels: Array, threshold: float) -> Array:
    """Regions merge while their mean colours in RGB are nearer than a threshold.

    This is the program of scikit-image's gallery, "Region adjacency graph (RAG) merging".
    """
    from skimage import graph

    rag_of, merge_of = cast(Any, graph.rag_mean_color), cast(Any, graph.merge_hierarchical)

    def weigh(rag: Any, source: int, target: int, neighbour: int) -> dict[str, float]:
        apart = rag.nodes[target]["mean color"] - rag.nodes[neighbour]["mean color"]
        return {"weight": float(np.linalg.norm(apart))}

    def merge(rag: Any, source: int, target: int) -> None:
        for key in ("total color", "pixel count"):
            rag.nodes[target][key] += rag.nodes[source][key]
        rag.nodes[target]["mean color"] = rag.nodes[target]["total color"] / rag.nodes[target]["pixel count"]

    color = image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
    rag = rag_of(color, labels)
    merged = merge_of(
        labels, rag, thresh=threshold, rag_copy=False, in_place_merge=True, merge_func=merge, weight_func=weigh
    )
    return np.asarray(merged)


def _fixed(epsilon_sq: float, image: Array) -> Array:
    return seg.segment(image, epsilon_sq=epsilon_sq)


#: What each leaves to choose.
SETTINGS: dict[str, dict[str, Segmenter]] = {
    BY_RULE: {"": seg.segment},
    "coding length, fixed": {f"ε² {e}": partial(_fixed, e) for e in (16, 32, 64)},
    "felzenszwalb": {f"scale {s}": partial(_felzenszwalb, s) for s in (100, 200, 400, 800)},
    "mean colour": {f"threshold {t}": partial(_mean_color, t) for t in (20, 30, 40)},
}


def segmentation(options: Options) -> Report:
    """Segments by coding length against felzenszwalb's and those of merging by mean colour.

    Mosaics of flat colours, gradients, bands of noise and photographed textures, and scikit-image's photographs with
    segments drawn by hand: settings are chosen on some, then held to on others; once more at a quarter of the contrast.
    With ``bsds`` the photographs of BSDS500's test set. ``seeds`` times as many mosaics; ``n_test`` images, at most, of
    the set, and about an eighth of it mosaics of each kind, small ones.
    """
    needs.require("skimage")
    count, rows = COUNT * options.seeds, ROWS
    if options.n_test is not None:
        count, rows = min(count, 1 + options.n_test // 8), 61
    report = Report(
        "segmentation",
        "segments by coding length",
        {"mosaics of each kind": count, "rows": rows, "chosen on": ", ".join(CHOICE_PHOTOGRAPHS) + ", mosaics",
         "held out": ", ".join(HELD_OUT_PHOTOGRAPHS) + ", mosaics of other seeds"},
    )  # fmt: skip
    chosen = _choose(report, _cases(range(count), rows, CHOICE_PHOTOGRAPHS))
    others = _cases(range(HELD_OUT, HELD_OUT + count), rows, HELD_OUT_PHOTOGRAPHS)
    _compare(report, "Held-out images", others, chosen)
    dim = [case._replace(image=np.round(128 + (case.image - 128.0) / DIM).astype(np.uint8)) for case in others]
    _compare(report, f"The same at 1/{DIM} of their contrast", dim, chosen)
    _pictures(report, others, chosen, rows)
    if options.bsds is not None:
        photographs = bsds.photographs(options.bsds, "test", options.n_test)
        _compare(report, "BSDS500, test", [Case("BSDS500", one.image, one.truths) for one in photographs], chosen)
    report.remark(
        "Covering and PRI: higher is better; VoI in bits, GCE, BDE in pixels: lower is. k: segments found. Means over "
        "images, covering ± the standard deviation over them; seconds are medians, of ours and of mean colour with "
        "superpixels. *Best of all* is coding length at the distortion that covers each image best, which no user "
        "could know. Outlines of photographs are one person's, and rough."
    )
    return report


def _cases(seeds: range, rows: int, photographs: Sequence[str]) -> list[Case]:
    shape = (rows, rows * SIDES[1] // SIDES[0])
    found = [Case(kind, image, truth[None]) for kind, image, truth in mosaics.mosaics(seeds, shape)]
    for name in photographs:
        image, truth = mosaics.photograph(name, rows)
        found.append(Case("photographs", image, truth[None]))
    return found


def _by_source(cases: Sequence[Case], values: Sequence[float]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for case, value in zip(cases, values, strict=True):
        found.setdefault(case.source, []).append(value)
    return found


def _choose(report: Report, cases: Sequence[Case]) -> dict[str, str]:
    """Of every method the setting that covers the true segments best: the mean over sources of the mean over images."""
    chosen: dict[str, str] = {}
    for method, settings in SETTINGS.items():
        scores = {}
        for setting, segmenter in settings.items():
            values = [seg.covering(segmenter(case.image), case.truths) for case in cases]
            scores[setting] = float(np.mean([np.mean(of) for of in _by_source(cases, values).values()]))
        chosen[method] = max(scores, key=lambda setting: scores[setting])
        for setting, score in scores.items():
            mark = "" if len(settings) == 1 else "chosen" if setting == chosen[method] else ""
            report.add("Choice of settings: mean covering", method=method, setting=setting, covering=score, chosen=mark)
    return chosen


def _compare(report: Report, table: str, cases: Sequence[Case], chosen: dict[str, str]) -> None:
    """A row for every source and method."""
    for method, settings in SETTINGS.items():
        _rows(report, table, cases, method, [settings[chosen[method]]])
    _rows(report, table, cases, "best of all", list(SETTINGS["coding length, fixed"].values()))


def _rows(report: Report, table: str, cases: Sequence[Case], method: str, segmenters: Sequence[Segmenter]) -> None:
    """Of the best by covering of some segmenters, for each image."""
    measured = []
    for case in cases:
        start = time.perf_counter()
        found = max((f(case.image) for f in segmenters), key=lambda labels: seg.covering(labels, case.truths))
        seconds = (time.perf_counter() - start) / len(segmenters)
        measured.append(
            (
                seg.covering(found, case.truths),
                seg.probabilistic_rand_index(found, case.truths),
                seg.variation_of_information(found, case.truths),
                seg.global_consistency_error(found, case.truths),
                seg.boundary_displacement_error(found, case.truths),
                len(np.unique(found)),
                seconds,
            )
        )
    of_source = _by_source(cases, list(range(len(cases))))
    for source, which in of_source.items():
        values = np.array([measured[int(i)] for i in which])
        _, pri, voi, gce, bde, k, _ = values.mean(axis=0).tolist()
        report.add(
            table, images=source, method=method, covering=spread(values[:, 0], 3), PRI=pri, VoI=voi, GCE=gce,
            BDE=bde, k=k, seconds=float(np.median(values[:, 6])),
        )  # fmt: skip


def _pictures(report: Report, cases: Sequence[Case], chosen: dict[str, str], rows: int) -> None:
    """Photographs, and a mosaic of each kind, with what is true and what was found."""
    photographs = _cases(range(0), rows, (*HELD_OUT_PHOTOGRAPHS, *CHOICE_PHOTOGRAPHS))
    each = list({case.source: case for case in cases if case.source != "photographs"}.values())
    methods = [method for method in SETTINGS if method != "coding length, fixed"]
    for name, shown, caption in (
        (
            "photographs",
            photographs,
            "Photographs as drawn by hand and as found; the lower three were used to choose.",
        ),
        ("mosaics", each, "Mosaics that nothing was chosen on: as made, and as found."),
    ):
        axes = iter(report.axes(name, caption, columns=1 + len(methods), rows=len(shown), size=(3.0, 2.2)))
        for case in shown:
            plot.segments(case.image, case.truths[0], ax=next(axes), title="true")
            for method in methods:
                labels = SETTINGS[method][chosen[method]](case.image)
                title = f"{method}: {len(np.unique(labels))}, covering {seg.covering(labels, case.truths):.2f}"
                ax = plot.segments(case.image, labels, ax=next(axes), title=title)
                ax.title.set_fontsize("x-small")
