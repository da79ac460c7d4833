"""Coding rates and their reduction as differentiable functions of tensors.

The forward pass computes the gradient too, in one pass of the engine (`redunet.torch.ops`), and the backward pass is
one multiplication. Second derivatives go through `redunet.torch.formula`. Functions are positive rates; what a loss
minimises is their negative (`redunet.torch.losses`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from redunet._inputs import checks, words
from redunet._inputs.problem import DFT_NORMS
from redunet.torch import formula, ops
from redunet.torch.batches import one_by_one
from redunet.torch.gathered import Gathered, Group

SHAPES = {2: "(m, d)", 3: "(m, C, T)", 4: "(m, C, H, W)"}


class RateReduction(NamedTuple):
    """gamma2 R' - R_c and its two terms, tensors without axes.

    Attributes
    ----------
    delta : Tensor
        gamma2 R' - R_c; with gamma1 = gamma2 = 1 the rate reduction Delta R = R - R_c >= 0.
    rate : Tensor
        R', the rate of all features together.
    class_rate : Tensor
        R_c, the rate of the classes.
    """

    delta: Tensor
    rate: Tensor
    class_rate: Tensor


def coding_rate(
    Z: Tensor,
    *,
    epsilon_sq: float = 0.1,
    sample_weight: Tensor | None = None,
    dft_norm: words.DftNorm = "ortho",
    group: Group | None = None,
) -> Tensor:
    """Coding rate R of all features together, in nats; differentiable.

    Parameters
    ----------
    Z : (m, d), (m, C, T) or (m, C, H, W) tensor, real
        Features, taken as they are; float16 and bfloat16 are computed in float32.
    epsilon_sq : float, default 0.1
        Squared distortion eps^2 > 0.
    sample_weight : (m,) tensor, optional
        Weights >= 0 of the samples; no gradient goes to them.
    dft_norm : {"ortho", "backward"}, default "ortho"
        As in `redunet.build`.
    group : torch.distributed.ProcessGroup, optional
        Processes that each hold some of the samples, or none. The rate is that of all samples on every process;
        gradients are multiplied by the number of processes, for DistributedDataParallel, which averages them.

    Returns
    -------
    Tensor ()
        R(Z, eps) = 1/2 log det(I + d/(m eps^2) Z* Z); for signals and images the mean of it over the frequencies.

    Raises
    ------
    torch.linalg.LinAlgError
        Where Z is too large, or epsilon_sq too small, for the precision.

    Examples
    --------
    >>> import torch
    >>> from redunet.torch import coding_rate
    >>> Z = torch.eye(2, requires_grad=True)
    >>> R = coding_rate(Z, epsilon_sq=1.0)  # 1/2 log det(2 I) = log 2
    >>> round(R.item(), 6)
    0.693147
    >>> R.backward()
    >>> Z.grad
    tensor([[0.5000, 0.0000],
            [0.0000, 0.5000]])
    """
    return _rates(
        features(Z, "Z", empty=group is not None), None, sample_weight, epsilon_sq, 1.0, 1.0, dft_norm, group
    ).delta


def rate_reduction(
    Z: Tensor,
    y: Tensor,
    *,
    n_classes: int | None = None,
    epsilon_sq: float = 0.1,
    sample_weight: Tensor | None = None,
    gamma1: float = 1.0,
    gamma2: float = 1.0,
    dft_norm: words.DftNorm = "ortho",
    group: Group | None = None,
) -> RateReduction:
    """Coding-rate reduction of features under a membership, in nats; differentiable.

    Parameters
    ----------
    Z, epsilon_sq, sample_weight, dft_norm, group
        As in `coding_rate`.
    y : (m,) integer tensor, or (m, k) floating tensor
        Labels >= 0, or a membership pi >= 0, to which gradients go: the same with m held, whatever its rows add up to.
        A class without samples, which a batch often has, counts zero.
    n_classes : int, optional
        More than every label: an error otherwise, but in compiled functions, which look at no label.
    gamma1 : float, default 1.0
        R' = 1/2 log det(I + gamma1 d/(m eps^2) Z* Z).
    gamma2 : float, default 1.0
        Factor > 0 of R' in delta.

    Returns
    -------
    RateReduction
        ``(delta, rate, class_rate)``: delta = gamma2 R' - R_c, of which the gradient comes with the value;
        R_c = sum_j m_j/(2m) log det(I + d/(m_j eps^2) Z* Pi^j Z) (Yu, Chan, You, Song, Ma, *Learning diverse and
        discriminative representations via the principle of maximal coding rate reduction*, NeurIPS 2020; there gamma1
        and gamma2 are those of the authors' code). A loss to minimise is ``-delta``.

    Raises
    ------
    torch.linalg.LinAlgError
        Where Z is too large, or epsilon_sq too small, for the precision: never a NaN.

    Examples
    --------
    >>> import torch
    >>> from redunet.torch import rate_reduction
    >>> Z = torch.eye(2, requires_grad=True)
    >>> reduction = rate_reduction(Z, torch.tensor([0, 1]), epsilon_sq=1.0)
    >>> round(reduction.rate.item(), 6), round(reduction.class_rate.item(), 6)  # log 2 and 1/2 log 3
    (0.693147, 0.549306)
    >>> (-reduction.delta).backward()  # a step against this gradient increases Delta R
    >>> Z.grad
    tensor([[-0.1667, -0.0000],
            [-0.0000, -0.1667]])
    """
    Z = features(Z, "Z", empty=group is not None)
    y = _labels(y, len(Z), n_classes)
    checks.positive(gamma1, "gamma1")
    checks.positive(gamma2, "gamma2")
    return _rates(Z, y, sample_weight, epsilon_sq, float(gamma1), float(gamma2), dft_norm, group)


def _rates(
    Z: Tensor,
    y: Tensor | None,
    sample_weight: Tensor | None,
    epsilon_sq: float,
    gamma1: float,
    gamma2: float,
    dft_norm: str,
    group: Group | None,
) -> RateReduction:
    epsilon_sq = checks.positive(epsilon_sq, "epsilon_sq")
    checks.choice(dft_norm, "dft_norm", DFT_NORMS)
    sample_weight = _weights(sample_weight, len(Z))
    if group is not None:
        all_of_them = Gathered(group, Z, y, sample_weight)
        Z, y, sample_weight = all_of_them.Z, all_of_them.y, all_of_them.sample_weight
    arguments = (epsilon_sq, gamma1, gamma2, dft_norm)
    if torch.is_grad_enabled() and (Z.requires_grad or (y is not None and y.requires_grad)):
        of_membership = y is not None and y.requires_grad
        function = _Plain if ops.is_plain(Z, y, sample_weight) else _Reduction
        found = function.apply(Z, y, sample_weight, *arguments, of_membership)
        return RateReduction(*found[:3])
    return RateReduction(*torch.ops.redunet.rates(Z, y, sample_weight, *arguments).unbind())


def features(Z: Any, name: str, shapes: dict[int, str] = SHAPES, *, empty: bool = False) -> Tensor:
    """A real tensor in at least single precision, whatever autocast is about; samples first, none only if allowed."""
    if not isinstance(Z, Tensor):
        raise TypeError(f"{name} is a {type(Z).__name__}; expected a tensor")
    if not Z.dtype.is_floating_point:
        raise TypeError(f"{name} has dtype {Z.dtype}; expected real floating numbers")
    if Z.ndim not in shapes or 0 in Z.shape[1 if empty else 0 :]:
        expected = " or ".join(shapes.values())
        raise ValueError(f"{name} has shape {tuple(Z.shape)}; expected {expected}, at least one of each")
    return Z.to(torch.promote_types(Z.dtype, torch.float32))


def _weights(sample_weight: Any, m: int) -> Tensor | None:
    if sample_weight is None:
        return None
    if not isinstance(sample_weight, Tensor):
        raise TypeError(f"sample_weight is a {type(sample_weight).__name__}; expected a tensor")
    if sample_weight.shape != (m,):
        raise ValueError(f"sample_weight has shape {tuple(sample_weight.shape)}; expected ({m},)")
    return sample_weight.detach()


def _labels(y: Any, m: int, n_classes: int | None) -> Tensor:
    """Integer labels (m,), or a membership (m, k) in at least single precision."""
    if not isinstance(y, Tensor):
        raise TypeError(f"y is a {type(y).__name__}; expected a tensor")
    if y.ndim not in (1, 2) or len(y) != m:
        raise ValueError(f"y has shape {tuple(y.shape)}; expected labels ({m},) or a membership ({m}, k)")
    if y.ndim == 2:
        if not y.dtype.is_floating_point:
            raise TypeError(f"y is a membership of dtype {y.dtype}; expected floating numbers")
        if n_classes not in (None, y.shape[1]):
            raise ValueError(f"n_classes is {n_classes!r} and y has shape {tuple(y.shape)}; expected {y.shape[1]}")
        return y.to(torch.promote_types(y.dtype, torch.float32))
    if y.dtype.is_floating_point or y.dtype.is_complex or y.dtype == torch.bool:
        raise TypeError(f"y has dtype {y.dtype}; expected integer labels")
    if n_classes is not None:
        checks.integer(n_classes, "n_classes", 1)
        if not torch.compiler.is_compiling() and m > 0 and int(y.max()) >= n_classes:
            raise ValueError(f"y is {int(y.max())} for sample {int(y.argmax())}; expected labels < {n_classes}")
    return y.to(torch.int64)


class _Reduction(torch.autograd.Function):
    """(delta, rate, class_rate) and the gradients of delta, to features and membership."""

    generate_vmap_rule = False

    @staticmethod
    def forward(*inputs: Any) -> tuple[Tensor, ...]:
        values, of_features, of_membership = torch.ops.redunet.rates_and_gradient(*inputs)
        return (*values.unbind(), of_features, of_membership)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        Z, y, sample_weight, *arguments = inputs
        ctx.arguments = arguments[:-1]
        ctx.save_for_backward(Z, y, sample_weight, *output[3:])
        ctx.mark_non_differentiable(*output[3:])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, of_delta: Any, of_rate: Any, of_class_rate: Any, *_: Any) -> Any:
        Z, y, sample_weight, of_features, of_membership = ctx.saved_tensors
        epsilon_sq, gamma1, gamma2, dft_norm = ctx.arguments
        inputs = (Z, y, sample_weight, *ctx.arguments)
        to_features = to_membership = None
        by = of_delta if of_class_rate is None else (-of_class_rate if of_delta is None else of_delta - of_class_rate)
        if by is not None:
            of_features, of_membership = _as_functions(inputs, of_features, of_membership)
            to_features = by * of_features
            if y is not None and ctx.needs_input_grad[1]:
                to_membership = by * of_membership
        # R_c = gamma2 R' - delta: what is left is that of R' alone, which is rarely asked for.
        by = of_rate
        if of_class_rate is not None:
            by = gamma2 * of_class_rate if by is None else by + gamma2 * of_class_rate
        if by is not None:
            alone = (Z, None, sample_weight, epsilon_sq, gamma1, 1.0, dft_norm)
            with torch.no_grad():
                found = torch.ops.redunet.rates_and_gradient(*alone, False)
            to_rate = by * _as_functions(alone, *found[1:])[0]
            to_features = to_rate if to_features is None else to_features + to_rate
        return (to_features, to_membership, *[None] * 6)

    @staticmethod
    def vmap(info: Any, in_dims: Any, *inputs: Any) -> Any:
        return one_by_one(_Reduction, info, in_dims, inputs)


class _Plain(_Reduction):
    """The same of plain tensors outside of `torch.func`: no signature is bound, and a call costs 0.1 ms less."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, ...]:
        values, of_features, of_membership = ops.compute_rates_and_gradient(*inputs)
        output = (*values.unbind(), of_features, of_membership)
        _Reduction.setup_context(ctx, inputs, output)
        return output

    setup_context = torch.autograd.Function.setup_context  # which says that forward does it


def _as_functions(inputs: tuple[Any, ...], of_features: Tensor, of_membership: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients that were found, to be differentiated again where that is wanted."""
    if not torch.is_grad_enabled():
        return of_features, of_membership
    found: tuple[Tensor, Tensor] = _Gradient.apply(*inputs, of_features, of_membership)
    return found


class _Gradient(torch.autograd.Function):
    """The gradients as they were found, as functions of Z and y."""

    generate_vmap_rule = False

    @staticmethod
    def forward(*inputs: Any) -> tuple[Tensor, Tensor]:
        of_features, of_membership = inputs[-2:]
        return of_features.clone(), of_membership.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        Z, y, sample_weight, *arguments = inputs
        ctx.arguments = arguments[:-2]
        ctx.save_for_backward(Z, y, sample_weight)

    @staticmethod
    def backward(ctx: Any, of_features: Tensor, of_membership: Tensor) -> Any:
        Z, y, sample_weight = ctx.saved_tensors
        soft = y is not None and y.ndim == 2

        def delta(Z: Tensor, *membership: Tensor) -> Tensor:
            return formula.rate_reduction(Z, membership[0] if soft else y, sample_weight, *ctx.arguments)

        if not soft:
            product: Any = torch.func.vjp(torch.func.grad(delta), Z)[1]
            return (product(of_features)[0], None, *[None] * 7)
        product = torch.func.vjp(torch.func.grad(delta, argnums=(0, 1)), Z, y)[1]
        zero = torch.zeros_like(y) if of_membership.shape != y.shape else of_membership
        return (*product((of_features, zero)), *[None] * 7)

    @staticmethod
    def vmap(info: Any, in_dims: Any, *inputs: Any) -> Any:
        return one_by_one(_Gradient, info, in_dims, inputs)
