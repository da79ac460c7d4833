"""Which layout: what ranks send each other in a layer, and how long that takes.

With C channels, F frequencies, m samples, k classes and P ranks a rank sends, and takes, in a layer about::

    by samples       (P - 1) / P  (k G + (k + 1) O),  G = F C (C + 1) / 2 numbers in double precision,
                                                      O as many in that of the features; complex ones count twice
    by frequencies   (P - 1) / P  2 m (k + 1) numbers in double precision

in 2 and in 3 to 5 meetings, as large sums take two; a meeting takes the latency and its bytes over the bandwidth. What
counts is the rank that sends or takes most: shares are as equal as can be, which of few pairs of class and frequency is
not very. The Gram matrix of all samples travels too where a rank has not all classes of a frequency.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from redunet._inputs import checks, words
from redunet.distributed.communicator import SMALL_SUM_BYTES, Communicator
from redunet.distributed.grams import blocks_of
from redunet.transforms import groups
from redunet.transforms.cyclic import Fourier

LAYOUTS = ("auto", "samples", "frequencies")


@dataclass(frozen=True)
class Plan:
    """How a network is built by several ranks, and why; its ``repr`` says so.

    Attributes
    ----------
    layout : {"samples", "frequencies"}
        What ranks share.
    why : str
        The reason.
    n_bytes : dict
        Bytes in a layer, of both layouts: in each meeting of the rank that sends or takes most.
    seconds : dict
        What sending takes in a layer, of both layouts, by the communicator's latency and bandwidth. Of more ranks than
        frequencies, by frequencies: what it would be of as many ranks as frequencies.
    """

    layout: Literal["samples", "frequencies"]
    why: str
    n_bytes: dict[str, float]
    seconds: dict[str, float]

    def __repr__(self) -> str:
        sent = (f"{name} {_bytes(self.n_bytes[name])} in {1e3 * self.seconds[name]:.3g} ms" for name in self.n_bytes)
        return f"Plan(by {self.layout}: {self.why}; a layer sends by {', by '.join(sent)})"


def plan(
    shape: tuple[int, ...],
    n_classes: int,
    *,
    comm: Communicator,
    layout: words.Layout = "auto",
    group: words.Group = "cyclic",
    dtype: npt.DTypeLike = np.float32,
) -> Plan:
    """What `build` would do with samples of all ranks; all ranks call it together.

    Parameters
    ----------
    shape : tuple of int
        (m, d), (m, C, T) or (m, C, H, W) of all samples.
    n_classes : int
        k.
    comm : Communicator
        The ranks. Their latency and bandwidth are measured where that was not done before, in a few milliseconds.
    layout, group
        As given to `build`.
    dtype : dtype, default float32
        Of the samples.

    Returns
    -------
    Plan
        The same on all ranks.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range, or the layout does not fit; the message names it.

    Examples
    --------
    >>> from redunet import distributed
    >>> distributed.plan((60000, 784), 10, comm=distributed.single())
    Plan(by samples: there is one rank; a layer sends by samples 0 B in 0 ms, by frequencies 0 B in 0 ms)
    """
    checks.instance(comm, Communicator, "comm")
    if not hasattr(shape, "__len__") or len(shape) not in (2, 3, 4):
        raise ValueError(f"shape is {shape!r}; expected {checks.SHAPES}")
    shape = tuple(checks.integer(n, "shape", 1) for n in shape)
    kind = checks.floating(dtype, np.empty(0, np.float32))
    fourier = groups.transform(shape[2:], kind.kind == "f", checks.group(group, shape, "shape"))
    return planned(shape[0], shape[1], checks.integer(n_classes, "n_classes", 1), fourier, kind, comm, layout)


def planned(
    m: int,
    n_channels: int,
    n_classes: int,
    fourier: Fourier,
    dtype: np.dtype[Any],
    comm: Communicator,
    layout: words.Layout,
) -> Plan:
    """The same of samples that are known."""
    checks.choice(layout, "layout", LAYOUTS)
    n_freqs = fourier.n_freqs
    n_bytes = {
        "samples": _bytes_by_samples(fourier, n_channels, n_classes, dtype, comm.size),
        "frequencies": sum(_bytes_of_sum(n, min(comm.size, n_freqs)) for n in _sums(m, n_classes)),
    }
    if comm.size == 1:
        return Plan(
            "samples" if layout == "auto" else layout, "there is one rank", n_bytes, dict.fromkeys(n_bytes, 0.0)
        )
    latency, bandwidth = comm.measured()
    n_meetings = meetings(m, n_classes)
    seconds = {name: n_meetings[name] * latency + n_bytes[name] / bandwidth for name in n_bytes}
    if n_freqs < comm.size:
        few = f"{comm.size} ranks are more than the frequencies, {n_freqs}"
        if layout == "frequencies":
            raise ValueError(f'layout is "frequencies", and {few}; expected "samples" or "auto"')
        if n_freqs > 1 and seconds["frequencies"] < seconds["samples"]:
            few += f"; {n_freqs} ranks would send faster"
        return Plan("samples", few, n_bytes, seconds)
    if layout != "auto":
        return Plan(layout, "as asked for", n_bytes, seconds)
    fastest: Literal["samples", "frequencies"]
    fastest = "samples" if seconds["samples"] <= seconds["frequencies"] else "frequencies"
    return Plan(fastest, f"at {1e6 * latency:.3g} us a meeting and {bandwidth / 1e9:.3g} GB/s", n_bytes, seconds)


def meetings(m: int, n_classes: int) -> dict[str, int]:
    """Of a layer: for Gram matrices and operators; for the sums of residuals, norms and rates."""
    return {"samples": 2, "frequencies": sum(2 if 8 * n > SMALL_SUM_BYTES else 1 for n in _sums(m, n_classes))}


def _sums(m: int, n_classes: int) -> tuple[int, int, int]:
    """Numbers of the sums by frequencies, in a layer."""
    return m * n_classes, m, n_classes + 1


def _bytes_of_sum(n: int, size: int) -> float:
    """What a rank sends, and takes, of `Communicator.all_sum` of n numbers."""
    return 8.0 * (size - 1) * (2 * -(-n // size) if 8 * n > SMALL_SUM_BYTES else n)


def _bytes_by_samples(fourier: Fourier, n_channels: int, n_classes: int, dtype: np.dtype[Any], size: int) -> float:
    """Of the rank with the largest shares: all others send it Gram matrices, and take its operators and rates."""
    item = fourier.spectral_dtype(dtype)
    triangle = n_channels * (n_channels + 1) // 2
    shares = blocks_of(n_classes + 1, fourier.n_freqs, size)
    summed = max(sum(block.size(block.summed) for block in share) for share in shares)
    made = max(sum(block.size(block.numbers) for block in share) for share in shares)
    gram = triangle * (16 if item.kind == "c" else 8)
    return float((size - 1) * (summed * gram + made * triangle * item.itemsize + 8 * (n_classes + 1)))


def _bytes(n: float) -> str:
    for unit in ("B", "kB", "MB"):
        if n < 1000:
            return f"{n:.4g} {unit}"
        n /= 1000
    return f"{n:.4g} GB"
