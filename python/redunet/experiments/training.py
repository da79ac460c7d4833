"""Training a network of PyTorch on labelled images: passes over batches, and how often it is right.

PyTorch is imported by the functions, so that experiments can be listed without it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from redunet._inputs import checks
from redunet.experiments import needs
from redunet.progress import Progress

if TYPE_CHECKING:
    import torch

Array = npt.NDArray[Any]
BATCH = 100
#: Images that are evaluated at once.
MANY = 500


def pytorch() -> Any:
    """The module, or what to install."""
    needs.require("torch")
    import torch

    return torch


@contextmanager
def reproducible(seed: int) -> Iterator[None]:
    """PyTorch with this seed, on as many threads as the package has; both are put back."""
    torch = pytorch()
    threads = torch.get_num_threads()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            torch.set_num_threads(checks.threads(None))
            yield
    finally:
        torch.set_num_threads(threads)


def images(X: Array) -> torch.Tensor:
    """Bytes (m, C, H, W) as float32 images of mean about 0 and deviation about 1."""
    torch = pytorch()
    return (torch.from_numpy(X.astype(np.float32) / 255) - 0.2) / 0.35


def train(
    model: torch.nn.Module,
    X: torch.Tensor,
    y: torch.Tensor,
    make_optimizer: Callable[[int], tuple[torch.optim.Optimizer, Any]],
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    *,
    epochs: int,
    batch: int = BATCH,
    prepare: Callable[[torch.Tensor], torch.Tensor] | None = None,
    on_epoch: Callable[[int], dict[str, float]] | None = None,
    progress: bool = False,
) -> float:
    """Minimise ``loss(model(x), labels)`` over batches of about one size in random order; seconds, of training alone.

    ``make_optimizer`` is told the number of steps, and gives a schedule too. Images of a batch are what ``prepare``
    makes of them; after every pass stands ``on_epoch``, which says what to show.
    """
    torch = pytorch()
    batches = -(-len(X) // batch)
    optimizer, schedule = make_optimizer(epochs * batches)
    seconds = 0.0
    with Progress(epochs, "epoch", progress) as bar:
        for epoch in range(1, epochs + 1):
            model.train()
            start = time.perf_counter()
            for index in torch.randperm(len(X)).tensor_split(batches):
                value = loss(model(X[index] if prepare is None else prepare(X[index])), y[index])
                optimizer.zero_grad()
                value.backward()
                optimizer.step()
                schedule.step()
            seconds += time.perf_counter() - start
            bar.update(epoch, {} if on_epoch is None else on_epoch(epoch))
    return seconds


def fit(
    model: torch.nn.Module,
    X: torch.Tensor,
    y: torch.Tensor,
    make_optimizer: Callable[[int], tuple[torch.optim.Optimizer, Any]],
    *,
    epochs: int,
    label_smoothing: float = 0.0,
    progress: bool = False,
) -> tuple[float, float]:
    """`train` by cross-entropy: the accuracy on the training samples during the last pass, and seconds."""
    torch = pytorch()
    hits, last = 0, 0.0

    def loss(logits: Any, labels: Any) -> Any:
        nonlocal hits
        hits += int((logits.argmax(1) == labels).sum())
        return torch.nn.functional.cross_entropy(logits, labels, label_smoothing=label_smoothing)

    def of_pass(epoch: int) -> dict[str, float]:
        nonlocal hits, last
        hits, last = 0, hits / len(X)
        return {"train": last}

    seconds = train(model, X, y, make_optimizer, loss, epochs=epochs, on_epoch=of_pass, progress=progress)
    return last, seconds


def accuracy(model: torch.nn.Module, X: torch.Tensor, y: torch.Tensor) -> float:
    """How often the largest logit is the label's."""
    torch = pytorch()
    model.eval()
    with torch.no_grad():
        hits = [
            int((model(x).argmax(1) == labels).sum()) for x, labels in zip(X.split(MANY), y.split(MANY), strict=True)
        ]
    return sum(hits) / len(X)
