"""One layer of a ReduNet as an operation of PyTorch, with a backward of its own that keeps features alone.

    u = v + eta (E v - sum_j gamma_j pi_j C^j v),  pi = softmax_j(-lam rho_j),  rho_j = ||C^j v||,  z = u / ||u||

On CPU tensors the package's backend computes it, on those of other devices `layer_formula.py`. The gradient goes
through the gates, exactly; it cannot be differentiated again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from redunet import _backends
from redunet._backends.contract import Operators, Taken
from redunet.torch import layer_formula
from redunet.torch.batches import one_by_one

Array = npt.NDArray[Any]


def redu_layer(
    V: Tensor,
    operators: Tensor,
    gammas: Sequence[float],
    eta: float | Tensor,
    lam: float | Tensor,
    *,
    freq_weights: Tensor | None = None,
    nearest: Tensor | None = None,
    n_columns: int = 1,
) -> tuple[Tensor, Tensor]:
    """Features after one layer, and the assignment of every sample to the classes.

    Parameters
    ----------
    V : (m, C, F d, P) tensor, float32 or float64
        Features in the frequency domain; the last axis holds real and imaginary part (P = 2), or real numbers (P = 1).
    operators : (k + 1, F, C, C, P) tensor, dtype and device of V
        E, then every C^j; of no symmetry, after training.
    gammas : k floats
        Share of each class.
    eta, lam : float or tensor of one number
        Step, and sharpness lam >= 0 of the assignment.
    freq_weights : (F,) tensor, optional
        How many frequencies of the full spectrum each kept one stands for. Default: ones.
    nearest : (m,) int64 tensor, optional
        For speed alone: the class that each sample will probably be assigned to, such as in the layer before.
    n_columns : int, default 1
        d, columns of a sample at each frequency: more than one for groups with mirror images.

    Returns
    -------
    Z : (m, C, F d, P) tensor
        Features after the layer, of unit norm: sum_p w_p / d ||z(p)||^2 = 1. Contiguous.
    pi : (m, k) float64 tensor
        Assignments; no gradient goes through them from here on.

    Raises
    ------
    ValueError, TypeError
        If shapes, dtypes or devices do not fit each other, lam is negative, or features become NaN or infinite.

    Notes
    -----
    Gradients go to V, operators, eta and lam. With g = (dz - w z <z, dz>) / ||u|| and P_j = C^j v [1]::

        s_j = -eta pi_j (gamma_j <g, P_j> - sum_l pi_l gamma_l <g, P_l>),   to the score -lam rho_j
        g_j = -eta gamma_j pi_j g - lam s_j w P_j / rho_j
        dv = g + eta E* g + sum_j C^j* g_j,   dE = eta g v*,   dC^j = g_j v*

    Where one pi_j is 1, s = 0, and that class and E alone are worked on. V, Z, pi, rho and ||u|| are kept, which is
    O(m C F) for a layer, of which V is kept by the layer before.

    References
    ----------
    [1] Chan, Yu, You, Qi, Wright and Ma, "ReduNet: A White-box Deep Network from the Principle of
       Maximizing Rate Reduction", JMLR 23 (2022): the layer; the adjoint is the chain rule.

    Examples
    --------
    >>> import torch
    >>> from redunet.torch import redu_layer
    >>> V = torch.tensor([[3.0, 0.0], [0.0, 1.0]]).reshape(2, 2, 1, 1)  # two vectors of two features
    >>> E, C1, C2 = torch.eye(2), torch.diag(torch.tensor([0.1, 1.0])), torch.diag(torch.tensor([1.0, 0.1]))
    >>> operators = torch.stack([E, C1, C2]).reshape(3, 1, 2, 2, 1).requires_grad_()
    >>> Z, pi = redu_layer(V, operators, [0.5, 0.5], eta=0.5, lam=10.0)
    >>> pi.round(decimals=2).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    >>> Z[:, :, 0, 0].norm(dim=1)
    tensor([1., 1.], grad_fn=<LinalgVectorNormBackward0>)
    """
    _check(V, operators, gammas, nearest, n_columns)
    if freq_weights is None:
        freq_weights = torch.ones(operators.shape[1], device=V.device)
    elif freq_weights.shape != operators.shape[1:2]:
        raise ValueError(f"freq_weights has shape {tuple(freq_weights.shape)}; expected {tuple(operators.shape[1:2])}")
    numbers = [_number(value, name, V.device) for value, name in ((eta, "eta"), (lam, "lam"))]
    made = _Layer.apply(V, operators, freq_weights, *numbers, nearest, list(gammas), n_columns)
    Z, pi, _, _ = made
    return Z, pi


def _check(V: Tensor, operators: Tensor, gammas: Sequence[float], nearest: Tensor | None, n_columns: int) -> None:
    for name, tensor in (("V", V), ("operators", operators)):
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{name} is a {type(tensor).__name__}; expected a tensor")
    if V.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"V has dtype {V.dtype}; expected torch.float32 or torch.float64")
    if operators.dtype != V.dtype or operators.device != V.device:
        raise TypeError(
            f"operators are {operators.dtype} on {operators.device}; expected {V.dtype} on {V.device}, as V"
        )
    if V.ndim != 4 or V.shape[3] not in (1, 2):
        raise ValueError(f"V has shape {tuple(V.shape)}; expected (m, C, F d, P), P = 1 or 2")
    m, C, columns, P = V.shape
    if columns % n_columns:
        raise ValueError(f"V has {columns} columns; expected a multiple of n_columns = {n_columns}")
    expected = (len(gammas) + 1, columns // n_columns, C, C, P)
    if operators.shape != expected:
        raise ValueError(f"operators have shape {tuple(operators.shape)}; expected (k + 1, F, C, C, P) = {expected}")
    if nearest is not None and nearest.shape != (m,):
        raise ValueError(f"nearest has shape {tuple(nearest.shape)}; expected ({m},)")


def _number(value: float | Tensor, name: str, device: torch.device) -> Tensor:
    tensor = value if isinstance(value, Tensor) else torch.tensor(float(value), dtype=torch.float64)
    if tensor.numel() != 1:
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}; expected one number")
    return tensor.reshape(()).to(device)


@torch.library.custom_op(
    "redunet::layer",
    mutates_args=(),
    device_types="cpu",  # a schema: PyTorch 2.4 makes none from annotations that are text
    schema="(Tensor V, Tensor operators, Tensor freq_weights, Tensor eta, Tensor lam, Tensor? nearest, float[] gammas, "
    "int n_columns) -> (Tensor, Tensor, Tensor, Tensor)",
)
def _layer(
    V: Tensor, operators: Tensor, freq_weights: Tensor, eta: Tensor, lam: Tensor, nearest: Tensor | None,
    gammas: Sequence[float], n_columns: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Z, pi, rho^2 and 1 / ||u||."""
    sharpness = float(lam)
    if not sharpness >= 0:
        raise ValueError(f"lam is {sharpness}; expected a number >= 0")
    ops = _operators(operators, gammas, freq_weights, eta, sharpness, n_columns)
    state = _state(V, ops, nearest)
    taken = state.advance(ops, float(eta))
    Z = state.features()
    flat = Z.reshape(-1)
    if not math.isfinite(np.vdot(flat, flat).real):  # one pass over numbers of unit norm, which nothing else overflows
        bad = int(np.flatnonzero(~np.isfinite(Z).all(axis=(1, 2)))[0])
        raise ValueError(
            f"features of sample {bad} are NaN or infinite after the layer; expected finite V and operators"
        )
    pi, squares, scale = map(torch.from_numpy, (taken.pi, taken.squares, taken.scale))
    return _tensor(Z, V), pi, squares, scale


@torch.library.custom_op(
    "redunet::layer_backward",
    mutates_args=(),
    device_types="cpu",
    schema="(Tensor upstream, Tensor V, Tensor Z, Tensor operators, Tensor freq_weights, Tensor eta, Tensor lam, "
    "Tensor pi, Tensor squares, Tensor scale, float[] gammas, int n_columns) -> (Tensor, Tensor, Tensor, Tensor)",
)
def _layer_backward(
    upstream: Tensor, V: Tensor, Z: Tensor, operators: Tensor, freq_weights: Tensor, eta: Tensor, lam: Tensor,
    pi: Tensor, squares: Tensor, scale: Tensor, gammas: Sequence[float], n_columns: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients to V, operators, eta and lam."""
    ops = _operators(operators, gammas, freq_weights, eta, float(lam), n_columns)
    taken = Taken(*(array.detach().contiguous().numpy() for array in (pi, squares, scale)))
    state = _state(V, ops, pi.argmax(dim=1))
    back = state.pullback(ops, float(eta), taken, _array(Z), _array(upstream))
    to_operators = np.concatenate([back.E[None], back.Cs])
    return (
        _tensor(back.features, V),
        _tensor(to_operators, operators),
        torch.tensor(back.eta, dtype=eta.dtype),
        torch.tensor(back.lam, dtype=lam.dtype),
    )


def _operators(
    operators: Tensor, gammas: Sequence[float], freq_weights: Tensor, eta: Tensor, lam: float, n_columns: int
) -> Operators:
    """For a backend: views of the tensors."""
    dense = _array(operators)
    n_operators, F, C, _ = dense.shape
    return Operators(
        dense=dense[None],
        factors=np.empty((1, F, C, 0), dense.dtype),
        ranks=np.zeros(n_operators, np.int64),
        alphas=np.ones(n_operators),
        gammas=np.array(gammas),
        etas=np.array([float(eta)]),
        betas=np.zeros(1),
        lam=lam,
        freq_weights=freq_weights.detach().cpu().to(torch.float64).numpy(),
        n_columns=n_columns,
    )


def _state(V: Tensor, ops: Operators, nearest: Tensor | None) -> Any:
    classes = None if nearest is None else nearest.detach().cpu().to(torch.int64).contiguous().numpy()
    _, module = _backends.select()
    return module.state(_array(V), ops, nearest=classes, n_threads=torch.get_num_threads())


def _array(tensor: Tensor) -> Array:
    """A view of a contiguous tensor (..., P), else a copy, as an array of complex (P = 2) or real numbers."""
    parts = tensor.detach().contiguous().numpy()
    numbers: Array = (
        parts.view(np.result_type(parts.dtype, np.complex64))[..., 0] if parts.shape[-1] == 2 else parts[..., 0]
    )
    return np.ascontiguousarray(numbers)


def _tensor(array: Array, like: Tensor) -> Tensor:
    """The inverse of `_array`: a view."""
    real = np.ascontiguousarray(array).view(array.real.dtype)
    return torch.from_numpy(real.reshape(*array.shape, like.shape[-1]))


@_layer.register_fake
def _(V, operators, freq_weights, eta, lam, nearest, gammas, n_columns):  # type: ignore[no-untyped-def]
    m, k = V.shape[0], operators.shape[0] - 1
    tables = [V.new_empty(shape, dtype=torch.float64) for shape in ((m, k), (m, k), (m,))]
    return (torch.empty(V.shape, dtype=V.dtype, device=V.device), *tables)


@_layer_backward.register_fake
def _(upstream, V, Z, operators, freq_weights, eta, lam, pi, squares, scale, gammas, n_columns):  # type: ignore[no-untyped-def]
    made = [torch.empty(like.shape, dtype=like.dtype, device=like.device) for like in (V, operators)]
    return (*made, torch.empty_like(eta), torch.empty_like(lam))


def _on_any_device() -> None:
    """Where no backend of the package is at home, formulas of PyTorch."""

    def layer(V, operators, freq_weights, eta, lam, nearest, gammas, n_columns):  # type: ignore[no-untyped-def]
        return layer_formula.forward(V, operators, gammas, freq_weights, eta, lam, n_columns)

    def layer_backward(upstream, V, Z, operators, freq_weights, eta, lam, pi, squares, scale, gammas, n_columns):  # type: ignore[no-untyped-def]
        to_V, to_operators, to_eta, to_lam = layer_formula.backward(
            upstream, V, Z, operators, gammas, freq_weights, eta, lam, pi, squares, scale, n_columns
        )
        return to_V, to_operators, to_eta.to(eta.dtype), to_lam.to(lam.dtype)

    for device in ("cuda", "mps", "xpu"):
        _layer.register_kernel(device)(layer)
        _layer_backward.register_kernel(device)(layer_backward)


_on_any_device()


class _Layer(torch.autograd.Function):
    """`_layer` with its gradient, also for `torch.func`."""

    @staticmethod
    def forward(
        V: Tensor, operators: Tensor, freq_weights: Tensor, eta: Tensor, lam: Tensor, nearest: Tensor | None,
        gammas: list[float], n_columns: int,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
        made: tuple[Tensor, Tensor, Tensor, Tensor] = _layer(
            V, operators, freq_weights, eta, lam, nearest, gammas, n_columns
        )
        return made

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        V, operators, freq_weights, eta, lam, _, ctx.gammas, ctx.n_columns = inputs
        Z, *taken = output
        ctx.save_for_backward(V, Z, operators, freq_weights, eta, lam, *taken)
        ctx.mark_non_differentiable(*taken)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor, *_: Tensor | None) -> tuple[Tensor | None, ...]:
        # A function in the backward pass of another says that there is no second derivative; older PyTorch traces none.
        apply = _layer_backward if torch.compiler.is_compiling() else _LayerBackward.apply
        to = apply(upstream, *ctx.saved_tensors, ctx.gammas, ctx.n_columns)
        to_V, to_operators, to_eta, to_lam = to
        return to_V, to_operators, None, to_eta, to_lam, None, None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *inputs: Any) -> tuple[Any, Any]:
        return one_by_one(_Layer, info, in_dims, inputs)


class _LayerBackward(torch.autograd.Function):
    """`_layer_backward`, of which there is no gradient."""

    @staticmethod
    def forward(
        upstream: Tensor, V: Tensor, Z: Tensor, operators: Tensor, freq_weights: Tensor, eta: Tensor, lam: Tensor,
        pi: Tensor, squares: Tensor, scale: Tensor, gammas: list[float], n_columns: int,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
        made: tuple[Tensor, Tensor, Tensor, Tensor] = _layer_backward(
            upstream, V, Z, operators, freq_weights, eta, lam, pi, squares, scale, gammas, n_columns
        )
        return made

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> None:
        raise RuntimeError("redu_layer can be differentiated once, and not again")

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *inputs: Any) -> tuple[Any, Any]:
        return one_by_one(_LayerBackward, info, in_dims, inputs)
