"""`ReduNet` as a module of PyTorch: a constructed network whose operators, steps and sharpness are trained further.

Layers work on spectra V (m, C, F d, P), real numbers whose last axis holds real and imaginary part, or the one part of
a real number; samples enter by the DFT of the network and leave by its inverse, both of PyTorch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from redunet import network
from redunet._backends.contract import SMALLEST_NORM, Operators
from redunet._inputs import checks
from redunet.torch.layer import redu_layer
from redunet.transforms import groups

Array = npt.NDArray[Any]
LEARNT = ("operators", "eta", "lam")
#: V, V a layer before, and the class that each sample gated to.
Point = Any


class ReduNet(nn.Module):
    """A constructed network as a module: the same features, and gradients to samples and parameters.

    Parameters
    ----------
    net : redunet.ReduNet
        Built with ``keep="operators"``; in single or double precision.
    learn : names among "operators", "eta", "lam"
        What are parameters; the rest stays as it is. Default: the operators.
    checkpoint_every : int, default 0
        Layers from one kept tensor of features to the next; those between are computed again in the backward pass. 0:
        the features of every layer are kept.

    Attributes
    ----------
    layers : ModuleList
        Each with ``operators`` (k + 1, F, C, C, P), number 0 is E: real tensors, so that optimisers need know nothing
        of complex numbers.
    lam : Tensor or float
        Sharpness of the assignment of all layers.

    Raises
    ------
    ValueError, TypeError
        If an argument is of another kind, or the network kept no operators.

    Notes
    -----
    Operators of small classes, which a network keeps as factors, are dense here. Training drops what construction gives
    them beside their values: they are neither Hermitian nor, where a frequency of a real signal is its own mirror,
    real. The inverse DFT drops what is then no spectrum of real samples, as `redunet.ReduNet.transform` does.

    ``state_dict`` holds the parameters and constants (shares of classes, steps, momentum), and loads into a module of
    the same shape alone.

    Examples
    --------
    >>> import numpy as np, torch, redunet as rn
    >>> from redunet.torch import LinearHead, ReduNet
    >>> rng = np.random.default_rng(0)
    >>> X, y = rng.standard_normal((20, 3, 8)).astype(np.float32), np.arange(20) % 2
    >>> net, Z = rn.build(X, y, n_layers=3)
    >>> module = ReduNet(net)
    >>> features = module(torch.from_numpy(X))
    >>> bool(np.abs(features.detach().numpy() - Z).max() < 1e-5)
    True
    >>> model = torch.nn.Sequential(module, LinearHead(3 * 8, 2))
    >>> optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    >>> for _ in range(50):
    ...     loss = torch.nn.functional.cross_entropy(model(torch.from_numpy(X)), torch.from_numpy(y))
    ...     optimizer.zero_grad()
    ...     loss.backward()
    ...     optimizer.step()
    >>> loss.item() < 0.3  # 0.69 at first
    True
    >>> module.to_network()  # doctest: +ELLIPSIS
    ReduNet(3 layers, 2 classes, C=3 on 8, float32; ...)
    """

    freq_weights: Tensor

    def __init__(
        self, net: network.ReduNet, *, learn: Iterable[str] = ("operators",), checkpoint_every: int = 0
    ) -> None:
        super().__init__()
        if not isinstance(net, network.ReduNet):
            raise TypeError(f"net is a {type(net).__name__}; expected a redunet.ReduNet")
        learnt = (learn,) if isinstance(learn, str) else tuple(learn)
        for name in learnt:
            checks.choice(name, "learn", LEARNT)
        checks.integer(checkpoint_every, "checkpoint_every", 0)
        ops = net.operators
        self._net = dataclasses.replace(net, _operators=_constants(ops))
        self._fourier = net.fourier
        self.checkpoint_every = checkpoint_every
        dtype = torch.float32 if net.dtype in (np.float32, np.complex64) else torch.float64
        # Counts, which no conversion to another precision may touch.
        weights = torch.from_numpy(ops.freq_weights.astype(np.int64))
        self.register_buffer("freq_weights", weights, persistent=False)
        self.lam: float | Tensor = _constant_or_parameter(ops.lam, "lam" in learnt, dtype)
        self.layers = nn.ModuleList(
            Layer(_dense(ops, index), float(ops.etas[index]), "operators" in learnt, "eta" in learnt)
            for index in range(ops.n_layers)
        )

    def forward(self, X: Tensor, *, spectral: bool = False) -> Tensor:
        """Features of samples.

        Parameters
        ----------
        X : (m, d), (m, C, T) or (m, C, H, W) tensor
            Samples like those that the network was built from; scaled to unit norm first.
        spectral : bool, default False
            Their coordinates in the frequency domain, which have the same norms and inner products, (m, n) real
            numbers: what a linear head needs, without the inverse DFT.

        Raises
        ------
        ValueError, TypeError
            If X does not fit the network, or features become NaN or infinite.
        """
        V = self.advance(self.spectra(X))
        return self.coordinates(V) if spectral else self.samples(V)

    def spectra(self, X: Tensor) -> Tensor:
        """V, (m, C, F d, P), of samples, which are scaled to unit norm."""
        expected = (self._net.n_channels, *self._net.signal_shape)
        if not isinstance(X, Tensor):
            raise TypeError(f"X is a {type(X).__name__}; expected a tensor")
        if X.ndim != 1 + len(expected) or tuple(X.shape[1:]) != expected:
            wanted = ", ".join(map(str, ("m", *expected)))
            raise ValueError(f"X has shape {tuple(X.shape)}; this network expects ({wanted})")
        if X.is_complex() and self._real:
            raise TypeError(f"X has dtype {X.dtype}; this network was built from real samples")
        dtype = self._dtype
        X = X.to(dtype if self._real else dtype.to_complex())
        axes = tuple(range(1, X.ndim))
        peak = X.detach().abs().amax(axes, keepdim=True)
        X = X / torch.where(peak > 0, peak, 1)
        norm = torch.linalg.vector_norm(X, dim=axes, keepdim=True)
        X = X / torch.where(norm > 0, norm, 1)
        V = self._dft(X)
        if isinstance(self._fourier, groups.Dihedral):
            columns = torch.stack([V[image] for image in self._images()], dim=-1)
            V = 2**0.5 * torch.view_as_real(columns).flatten(-2) if self._real else columns
        V = V.reshape(len(X), self._net.n_channels, -1)
        return torch.view_as_real(V) if V.is_complex() else V[..., None]

    def advance(self, V: Tensor) -> Tensor:
        """V after all layers."""
        point: Point = (V, V, None)
        n = len(self.layers)
        step = self.checkpoint_every if self.checkpoint_every and torch.is_grad_enabled() else 0
        for first in range(0, n, step or n):
            if step:
                point = checkpoint(self._section, first, min(first + step, n), *point, use_reentrant=False)
            else:
                point = self._section(0, n, *point)
        V_after: Tensor = point[0]
        return V_after

    def walk(self, V: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """V and the assignments pi (m, k) after every layer, one after the other."""
        point: Point = (V, V, None)
        for index in range(len(self.layers)):
            *point, pi = self._layer(index, *point)
            yield point[0], pi

    def _at(self, index: int) -> Layer:
        layer = self.layers[index]
        assert isinstance(layer, Layer)
        return layer

    def _section(self, first: int, last: int, *start: Any) -> Point:
        point: Point = start
        for index in range(first, last):
            *point, _ = self._layer(index, *point)
        return point

    def _layer(self, index: int, V: Tensor, before: Tensor, nearest: Tensor | None) -> tuple[Any, ...]:
        """V after a layer, V before it, the class that each sample gated to, and pi."""
        layer, constants = self._at(index), self._net.operators
        beta = float(constants.betas[index])
        ahead = V if beta == 0 else self._unit(V + beta * (V - before))
        Z, pi = redu_layer(
            ahead, layer.operators, constants.gammas.tolist(), layer.eta, self.lam,
            freq_weights=self.freq_weights, nearest=nearest, n_columns=self._fourier.n_columns,
        )  # fmt: skip
        return Z, V, pi.argmax(dim=1), pi

    def coordinates(self, V: Tensor) -> Tensor:
        """V as real coordinates of an orthonormal basis, (m, n): sums of squares are those of samples."""
        return (V * self._column_weights(V).sqrt()[:, None]).flatten(1)

    def samples(self, V: Tensor) -> Tensor:
        """Samples of spectra, of the shape that the network is given."""
        numbers = torch.view_as_complex(V.contiguous()) if V.shape[-1] == 2 else V[..., 0]
        shape = (*V.shape[:2], *self._fourier.freq_shape)
        if isinstance(self._fourier, groups.Dihedral):
            d = self._fourier.n_columns
            columns = numbers.reshape(*shape, d)
            if self._real:
                columns = torch.view_as_complex((0.5**0.5 * columns).unflatten(-1, (d // 2, 2)).contiguous())
            last = self._net.signal_shape[-1]
            whole = (*self._net.signal_shape[:-1], last // 2 + 1 if self._real else last)
            numbers = columns.new_zeros(*V.shape[:2], *whole)
            for c, image in enumerate(self._images()):
                numbers[image] = columns[..., c]
        else:
            numbers = numbers.reshape(shape)
        return self._idft(numbers)

    def set_lam(self, lam: float) -> ReduNet:
        """Another sharpness of the assignment: a lower one lets gradients through gates that are all but one-hot.

        Learnt or not, as it was. Returns itself.
        """
        lam = checks.non_negative(lam, "lam")
        if isinstance(self.lam, Tensor):
            with torch.no_grad():
                self.lam.fill_(lam)
        else:
            self.lam = lam
        return self

    def randomize(self, generator: torch.Generator | None = None) -> ReduNet:
        """Real Gaussian kernels of full support in place of the operators, each as large as what it replaces.

        Of every operator the root mean square at each frequency stays; its convolution becomes noise. Returns itself.
        """
        with torch.no_grad():
            for layer in map(self._at, range(len(self.layers))):
                old = layer.operators
                size = old.square().sum(-1).mean(dim=(-1, -2)).sqrt()  # (k + 1, F)
                k1, F, C, _, P = old.shape
                draw = torch.randn(k1, C, C, *self._net.signal_shape, generator=generator, dtype=torch.float64)
                if not self._real:
                    imaginary = torch.randn(draw.shape, generator=generator, dtype=torch.float64)
                    draw = 0.5**0.5 * torch.complex(draw, imaginary)
                if isinstance(self._fourier, groups.Dihedral):  # real and even in every axis: one number at a frequency
                    draw = torch.randn(k1, C, C, F, generator=generator, dtype=torch.float64)
                else:
                    draw = self._dft(draw.flatten(0, 1)).reshape(k1, C, C, F)
                noise = torch.view_as_real(draw) if draw.is_complex() else draw[..., None]
                if noise.shape[-1] < P:
                    noise = torch.cat([noise, torch.zeros_like(noise)], -1)
                layer.operators.copy_(noise.permute(0, 3, 1, 2, 4) * size.cpu()[..., None, None, None])
        return self

    def to_network(self) -> network.ReduNet:
        """The network with the operators, steps and sharpness as they are now.

        All operators are dense. ``rates`` are those along the layers as they were built: what training did to them the
        samples would have to say. Of a network that kept no factors and was not trained, every number is the same to
        the last bit.

        Raises
        ------
        ValueError
            If lam or a step became negative, NaN or infinite.
        """
        lam, etas = _value(self.lam), np.array([_value(self._at(index).eta) for index in range(len(self.layers))])
        for value, name in ((np.array([lam]), "lam"), (etas, "eta")):
            if not (np.isfinite(value) & (value >= 0)).all():
                raise ValueError(f"{name} is {value[~(np.isfinite(value) & (value >= 0))][0]}; expected a number >= 0")
        dense = np.stack([_numbers(self._at(index).operators) for index in range(len(self.layers))])
        kept = self._net.operators
        ops = dataclasses.replace(
            kept,
            dense=dense,
            factors=np.empty((*dense.shape[:1], dense.shape[2], dense.shape[3], 0), dense.dtype),
            ranks=np.zeros_like(kept.ranks),
            etas=etas,
            lam=lam,
        )
        kind = np.dtype(np.float32 if self._dtype == torch.float32 else np.float64)
        dtype = kind if self._real else np.result_type(kind, np.complex64)
        return dataclasses.replace(self._net, etas=etas, lam=lam, dtype=dtype, _operators=ops)

    def get_extra_state(self) -> dict[str, Any]:
        """Constants of the state: floats, which `load_state_dict` brings back to the last bit."""
        ops = self._net.operators
        return {
            "shape": _shape_of(self._net),
            "gammas": ops.gammas.tolist(),
            "alphas": ops.alphas.tolist(),
            "betas": ops.betas.tolist(),
            "etas": [_value(self._at(index).eta) for index in range(len(self.layers))],
            "lam": _value(self.lam),
        }

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Those of another module of the same shape."""
        expected = _shape_of(self._net)
        for name, value in expected.items():
            if state["shape"][name] != value:
                raise ValueError(f"the state is of a network with {name} = {state['shape'][name]}; expected {value}")
        gammas, alphas, betas, etas = (np.array(state[name]) for name in ("gammas", "alphas", "betas", "etas"))
        ops = dataclasses.replace(
            self._net.operators, gammas=gammas, alphas=alphas, betas=betas, etas=etas, lam=state["lam"]
        )
        self._net = dataclasses.replace(self._net, betas=betas, _operators=ops)
        for index, eta in enumerate(state["etas"]):
            if not isinstance(self._at(index).eta, Tensor):
                self._at(index).eta = eta
        if not isinstance(self.lam, Tensor):
            self.lam = state["lam"]

    def extra_repr(self) -> str:
        """What the network is."""
        return repr(self._net).split("; ")[0].removeprefix("ReduNet(")

    @property
    def _dtype(self) -> torch.dtype:
        return self._at(0).operators.dtype

    @property
    def _real(self) -> bool:
        return self._net.dtype.kind == "f"

    def _images(self) -> list[tuple[Any, ...]]:
        """Where the spectrum of a sample holds the columns of its mirror images."""
        assert isinstance(self._fourier, groups.Dihedral)
        return [(..., *map(torch.from_numpy, image[1:])) for image in self._fourier.images]

    def _column_weights(self, V: Tensor) -> Tensor:
        """w_p / d of every column, (F d,)."""
        d = self._fourier.n_columns
        return (self.freq_weights.to(V.dtype) / d).repeat_interleave(d)

    def _unit(self, V: Tensor) -> Tensor:
        squares = (V.square() * self._column_weights(V)[:, None]).sum((1, 2, 3), keepdim=True)
        return V / squares.sqrt().clamp_min(SMALLEST_NORM)

    def _dft(self, X: Tensor) -> Tensor:
        axes = tuple(range(2, X.ndim))
        if not axes:
            return X
        spectrum: Tensor = (torch.fft.rfftn if self._real else torch.fft.fftn)(X, dim=axes, norm="ortho")
        return spectrum

    def _idft(self, spectrum: Tensor) -> Tensor:
        axes = tuple(range(2, spectrum.ndim))
        if not self._net.signal_shape:
            return spectrum.reshape(spectrum.shape[:2])
        inverse = torch.fft.irfftn if self._real else torch.fft.ifftn
        samples: Tensor = inverse(spectrum, s=self._net.signal_shape, dim=axes, norm="ortho")
        return samples


class Layer(nn.Module):
    """The operators of one layer, (k + 1, F, C, C, P), and its step."""

    operators: Tensor

    def __init__(self, operators: Tensor, eta: float, learn_operators: bool, learn_eta: bool) -> None:
        super().__init__()
        if learn_operators:
            self.operators = nn.Parameter(operators)
        else:
            self.register_buffer("operators", operators)
        self.eta: float | Tensor = _constant_or_parameter(eta, learn_eta, operators.dtype)

    def extra_repr(self) -> str:
        """Sizes."""
        k1, F, C, _, _ = self.operators.shape
        return f"{k1 - 1} classes, {F} frequencies, {C} channels, eta={_value(self.eta):.4g}"


def _constant_or_parameter(value: float, learnt: bool, dtype: torch.dtype) -> float | nn.Parameter:
    return nn.Parameter(torch.tensor(value, dtype=dtype)) if learnt else value


def _value(number: float | Tensor) -> float:
    return float(number.detach()) if isinstance(number, Tensor) else number


def _dense(ops: Operators, index: int) -> Tensor:
    """The operators of a layer as a real tensor of its own memory."""
    dense = np.stack([ops.to_dense(index, number) for number in range(len(ops.alphas))])
    return torch.from_numpy(dense.view(dense.real.dtype).reshape(*dense.shape, -1))


def _numbers(operators: Tensor) -> Array:
    """The inverse of `_dense`, (k + 1, F, C, C)."""
    parts = operators.detach().cpu().contiguous().numpy()
    numbers: Array = parts.view(np.result_type(parts.dtype, np.complex64)) if parts.shape[-1] == 2 else parts
    return numbers[..., 0].copy()


def _constants(ops: Operators) -> Operators:
    """Without the numbers of the operators, which the module has."""
    return dataclasses.replace(ops, dense=ops.dense[:0], factors=ops.factors[:0])


def _shape_of(net: network.ReduNet) -> dict[str, Any]:
    return {
        "n_layers": net.n_layers,
        "n_classes": net.n_classes,
        "n_channels": net.n_channels,
        "signal_shape": list(net.signal_shape),
        "group": net.group,
        "kind": "real" if net.dtype.kind == "f" else "complex",
    }
