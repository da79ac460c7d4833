"""Losses of published methods, of the rates of `redunet.torch`. Each is what is minimised: minus what is gained.

Features are scaled to unit norm first unless ``normalize=False``: rates of features that may grow have no largest
value, and what is not normalised is what makes published codes return NaN.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, normalize

from redunet._inputs import checks
from redunet.torch.gathered import Gathered, Group
from redunet.torch.rates import RateReduction, coding_rate, rate_reduction


class MCR2Loss(nn.Module):
    """Maximal coding-rate reduction: -(gamma2 R' - R_c), as `rate_reduction` has them.

    Parameters
    ----------
    epsilon_sq : float, default 0.5
        Squared distortion.
    gamma1, gamma2 : float, default 1.0
        As in `rate_reduction`.
    normalize : bool, default True
        Whether features are scaled to unit norm first.
    group : torch.distributed.ProcessGroup, optional
        As in `coding_rate`.

    Attributes
    ----------
    last : RateReduction or None
        Of the last call, detached: to log without another pass. Tensors: reading a number of them waits for it.

    References
    ----------
    Yu, Chan, You, Song, Ma, *Learning diverse and discriminative representations via the principle of maximal coding
    rate reduction*, NeurIPS 2020.

    Examples
    --------
    >>> import torch
    >>> from redunet.torch import MCR2Loss
    >>> loss = MCR2Loss(epsilon_sq=1.0)
    >>> round(loss(2 * torch.eye(2), torch.tensor([0, 1])).item(), 4)  # -(log 2 - log 3 / 2)
    -0.1438
    >>> round(loss.last.rate.item(), 4)
    0.6931
    """

    def __init__(
        self,
        epsilon_sq: float = 0.5,
        gamma1: float = 1.0,
        gamma2: float = 1.0,
        normalize: bool = True,
        group: Group | None = None,
    ) -> None:
        super().__init__()
        self.epsilon_sq = checks.positive(epsilon_sq, "epsilon_sq")
        self.gamma1, self.gamma2 = checks.positive(gamma1, "gamma1"), checks.positive(gamma2, "gamma2")
        self.normalize = checks.flag(normalize, "normalize")
        self.group = group
        self.last: RateReduction | None = None

    def forward(self, Z: Tensor, y: Tensor) -> Tensor:
        """Loss () of features (m, d) and labels (m,), or a membership (m, k)."""
        reduction = rate_reduction(
            _unit(Z, self.normalize),
            y,
            epsilon_sq=self.epsilon_sq,
            gamma1=self.gamma1,
            gamma2=self.gamma2,
            group=self.group,
        )
        self.last = RateReduction(*(value.detach() for value in reduction))
        return -reduction.delta

    def extra_repr(self) -> str:  # noqa: D102
        return f"epsilon_sq={self.epsilon_sq}, gamma1={self.gamma1}, gamma2={self.gamma2}, normalize={self.normalize}"


class MCR2CTRLLoss(MCR2Loss):
    """`MCR2Loss` of views of the same image, which are its class: learning without labels.

    The defaults are the authors': gamma1 = 20 and gamma2 = 0.05 keep R from winning over R_c with so many classes.

    Parameters
    ----------
    gamma1, gamma2, epsilon_sq, normalize, group
        As in `MCR2Loss`.

    Examples
    --------
    >>> import torch
    >>> from redunet.torch import MCR2CTRLLoss
    >>> Z = torch.nn.functional.one_hot(torch.arange(4)).repeat(2, 1).float()  # two views of four images
    >>> image = torch.arange(4).repeat(2)
    >>> round(MCR2CTRLLoss()(Z, image).item(), 4)
    0.7273
    """

    def __init__(
        self,
        gamma1: float = 20.0,
        gamma2: float = 0.05,
        epsilon_sq: float = 0.5,
        normalize: bool = True,
        group: Group | None = None,
    ) -> None:
        super().__init__(epsilon_sq, gamma1, gamma2, normalize, group)


class TotalCodingRateLoss(nn.Module):
    """Minus the coding rate, which keeps features from collapsing: the mean over views.

    Parameters
    ----------
    epsilon_sq : float, default 0.2
        Squared distortion.
    normalize, group
        As in `MCR2Loss`.

    Examples
    --------
    >>> import torch
    >>> from redunet.torch import TotalCodingRateLoss
    >>> round(TotalCodingRateLoss(epsilon_sq=1.0)(torch.eye(2)).item(), 4)  # -log 2
    -0.6931
    """

    def __init__(self, epsilon_sq: float = 0.2, normalize: bool = True, group: Group | None = None) -> None:
        super().__init__()
        self.epsilon_sq = checks.positive(epsilon_sq, "epsilon_sq")
        self.normalize = checks.flag(normalize, "normalize")
        self.group = group

    def forward(self, Z: Tensor) -> Tensor:
        """Loss () of features (m, d), or of several views of them, (views, m, d)."""
        views = _views(Z, "Z") if Z.ndim != 2 else Z[None]
        return -_mean_rate(_unit(views, self.normalize), self.epsilon_sq, self.group)

    def extra_repr(self) -> str:  # noqa: D102
        return f"epsilon_sq={self.epsilon_sq}, normalize={self.normalize}"


class EMPSSLLoss(nn.Module):
    """Views of an image near to their mean, and every view spread out.

    -invariance * (mean cosine of a view and the mean of all views) - mean over views of R.

    Parameters
    ----------
    epsilon_sq : float, default 0.2
        Squared distortion.
    invariance : float, default 200.0
        What nearness counts.
    normalize, group
        As in `MCR2Loss`; the cosines are of a process's own samples, which the processes average.

    References
    ----------
    Tong, Chen, Ma, LeCun, *EMP-SSL: towards self-supervised learning in one training epoch*, 2023.

    Examples
    --------
    >>> import torch
    >>> from redunet.torch import EMPSSLLoss
    >>> views = torch.eye(2).expand(3, 2, 2)  # three equal views: cosines of 1
    >>> round(EMPSSLLoss(epsilon_sq=1.0)(views).item(), 4)  # -200 - log 2
    -200.6931
    """

    def __init__(
        self,
        epsilon_sq: float = 0.2,
        invariance: float = 200.0,
        normalize: bool = True,
        group: Group | None = None,
    ) -> None:
        super().__init__()
        self.epsilon_sq = checks.positive(epsilon_sq, "epsilon_sq")
        self.invariance = checks.non_negative(invariance, "invariance")
        self.normalize = checks.flag(normalize, "normalize")
        self.group = group

    def forward(self, Z: Tensor) -> Tensor:
        """Loss () of views (views, m, d)."""
        views = _unit(_views(Z, "Z"), self.normalize)
        near = cosine_similarity(views, views.mean(0, keepdim=True), dim=-1).mean()
        return -self.invariance * near - _mean_rate(views, self.epsilon_sq, self.group)

    def extra_repr(self) -> str:  # noqa: D102
        return f"epsilon_sq={self.epsilon_sq}, invariance={self.invariance}, normalize={self.normalize}"


class SimDINOLoss(nn.Module):
    """Students near to a teacher, and their first views spread out.

    With s views of a student and t of a teacher: -coeff * (mean cosine of a student's and a teacher's view, all pairs
    but those of the same view) - (d + m) / (d m) * mean over the first t views of the student of
    sum log diag chol(I + d/(m eps^2) Z* Z).

    Parameters
    ----------
    epsilon_sq : float, default 0.05
        Squared distortion.
    coeff : float, default 1.0
        What nearness counts.
    group : torch.distributed.ProcessGroup, optional
        As in `coding_rate`; m counts the samples of all processes. The authors' code has an option to leave this out,
        and then scales as if it had not: what it computes there is the rate of no set of features.

    References
    ----------
    Wu, Zhang, Pai, Chen, Ma, *Simplifying DINO via coding rate regularization*, ICML 2025. Features are scaled to unit
    norm, as there.

    Examples
    --------
    >>> import torch
    >>> from redunet.torch import SimDINOLoss
    >>> student = torch.eye(2).expand(4, 2, 2)
    >>> round(SimDINOLoss(epsilon_sq=1.0)(student, student[:2]).item(), 4)  # -1 - (2 + 2) / (2 * 2) log 2
    -1.6931
    """

    def __init__(self, epsilon_sq: float = 0.05, coeff: float = 1.0, group: Group | None = None) -> None:
        super().__init__()
        self.epsilon_sq = checks.positive(epsilon_sq, "epsilon_sq")
        self.coeff = checks.non_negative(coeff, "coeff")
        self.group = group

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Loss () of a student's views (s, m, d) and a teacher's (t, m, d), which are the student's first t <= s."""
        student, teacher = _unit(_views(student, "student"), True), _unit(_views(teacher, "teacher"), True)
        s, m, d = student.shape
        t = len(teacher)
        if teacher.shape[1:] != student.shape[1:] or t > s or s == 1:
            raise ValueError(
                f"student has shape {tuple(student.shape)} and teacher {tuple(teacher.shape)}; expected (s, m, d) and "
                "(t, m, d) with t <= s views of the same samples, and s > 1"
            )
        cosines = torch.einsum("tmd,smd->ts", teacher, student) / m
        near = (cosines.sum() - cosines.diagonal().sum()) / (t * (s - 1))
        first = student[:t]
        if self.group is not None:
            gathered = Gathered(self.group, first.transpose(0, 1).contiguous()).Z
            first = gathered.transpose(0, 1)
            m = first.shape[1]
        return -self.coeff * near - (d + m) / (d * m) * _mean_rate(first, self.epsilon_sq, None)

    def extra_repr(self) -> str:  # noqa: D102
        return f"epsilon_sq={self.epsilon_sq}, coeff={self.coeff}"


def _mean_rate(views: Tensor, epsilon_sq: float, group: Group | None) -> Tensor:
    return torch.stack([coding_rate(view, epsilon_sq=epsilon_sq, group=group) for view in views.unbind()]).mean()


def _views(Z: Tensor, name: str) -> Tensor:
    if Z.ndim != 3:
        raise ValueError(f"{name} has shape {tuple(Z.shape)}; expected (views, m, d)")
    return Z


def _unit(Z: Tensor, wanted: bool) -> Tensor:
    """Features of unit norm, in at least single precision; zero stays zero."""
    Z = Z.to(torch.promote_types(Z.dtype, torch.float32)) if Z.dtype.is_floating_point else Z
    return normalize(Z, dim=-1) if wanted else Z
