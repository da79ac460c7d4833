"""What carries messages between ranks: nothing, MPI through mpi4py, or torch.distributed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from redunet.distributed.communicator import Bytes, Communicator, parts_of

if TYPE_CHECKING:
    from types import ModuleType


class _Single(Communicator):
    def _swap_lengths(self, lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        return lengths

    def _swap(self, parts: Sequence[Bytes], lengths: Sequence[int]) -> list[Bytes]:
        return [parts[0].copy()]


class _Mpi(Communicator):
    name = "MPI"

    def __init__(self, module: ModuleType, comm: Any) -> None:
        self._comm, self._byte = comm, module.BYTE
        super().__init__(comm.Get_rank(), comm.Get_size())

    def _swap_lengths(self, lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        theirs = np.empty_like(lengths)
        self._comm.Alltoall(lengths, theirs)
        return theirs

    def _swap(self, parts: Sequence[Bytes], lengths: Sequence[int]) -> list[Bytes]:
        sizes = [part.size for part in parts]
        if all(part is parts[0] for part in parts):  # to everyone the same: it is read where it lies
            sent, places = parts[0], [0] * len(parts)
        else:
            sent, places = np.concatenate(parts, out=self._rooms.of(sum(sizes))), _before(sizes)
        room = self._rooms.of(sum(lengths))
        received = [room, (lengths, _before(lengths)), self._byte]
        self._comm.Alltoallv([sent, (sizes, places), self._byte], received)
        return _split(room, lengths)


class _Torch(Communicator):
    name = "torch.distributed"

    def __init__(self, process_group: Any) -> None:
        import torch.distributed as dist

        self._group = process_group
        super().__init__(dist.get_rank(process_group), dist.get_world_size(process_group))

    def _swap_lengths(self, lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        import torch
        import torch.distributed as dist

        theirs = np.empty_like(lengths)
        dist.all_to_all_single(torch.from_numpy(theirs), torch.from_numpy(lengths), group=self._group)
        return theirs

    def _swap(self, parts: Sequence[Bytes], lengths: Sequence[int]) -> list[Bytes]:
        import torch
        import torch.distributed as dist

        sizes = [part.size for part in parts]
        sent, room = np.concatenate(parts, out=self._rooms.of(sum(sizes))), self._rooms.of(sum(lengths))
        dist.all_to_all_single(
            torch.from_numpy(room),
            torch.from_numpy(sent),
            output_split_sizes=list(lengths),
            input_split_sizes=sizes,
            group=self._group,
        )
        return _split(room, lengths)


def _before(lengths: Sequence[int]) -> list[int]:
    """Where messages of these lengths begin, one after the other."""
    return [part.start for part in parts_of(lengths)]


def _split(room: Bytes, lengths: Sequence[int]) -> list[Bytes]:
    return [room[part] for part in parts_of(lengths)]


def single() -> Communicator:
    """One process, this one: what is written for many ranks runs on one.

    Examples
    --------
    >>> from redunet import distributed
    >>> distributed.single()
    Communicator(single, rank 0 of 1)
    """
    return _Single(0, 1)


def mpi(comm: Any = None) -> Communicator:
    """The processes of an MPI communicator; needs mpi4py (``pip install 'redunet[mpi]'``) and an MPI.

    Parameters
    ----------
    comm : mpi4py.MPI.Intracomm, optional
        Default: ``MPI.COMM_WORLD``, all processes that ``mpirun`` started.

    Raises
    ------
    ImportError
        If mpi4py or an MPI library is missing.
    TypeError
        If ``comm`` is no such communicator.
    """
    from mpi4py import MPI

    if comm is None:
        comm = MPI.COMM_WORLD
    if not isinstance(comm, MPI.Intracomm) or comm == MPI.COMM_NULL:
        raise TypeError(f"comm is {comm!r} of type {type(comm).__name__}; expected an mpi4py.MPI.Intracomm")
    return _Mpi(MPI, comm)


def torch(process_group: Any = None) -> Communicator:
    """The processes of a group of torch.distributed, by its backend gloo; needs PyTorch (``redunet[torch]``).

    Parameters
    ----------
    process_group : torch.distributed.ProcessGroup, optional
        Default: all processes that ``init_process_group`` knows.

    Raises
    ------
    ImportError
        If PyTorch is missing.
    RuntimeError
        If ``torch.distributed`` is not initialised, or this process is not in the group.
    ValueError
        If arrays on the host don't travel by gloo in the group.
    """
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized()):
        raise RuntimeError("torch.distributed is not initialized: call torch.distributed.init_process_group('gloo')")
    if dist.get_rank(process_group) < 0:
        raise RuntimeError("process_group does not have this process; expected a group that it is in")
    carrier = dist.get_backend_config(process_group)
    if "gloo" not in carrier:
        raise ValueError(
            f"process_group has the backend {carrier}; expected gloo for arrays on the host: "
            "init_process_group('cpu:gloo,cuda:nccl') has both"
        )
    return _Torch(process_group)
