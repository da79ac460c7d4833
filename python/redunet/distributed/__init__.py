"""Networks from samples that lie in several processes, on one machine or on many, or that do not fit into memory.

`build` is `redunet.build` over the ranks of a communicator: `mpi`, `torch`, or `single`. It needs no engine of its own:
ranks add up Gram matrices, or norms. `build_chunks` is for one process, and samples that do not fit into its memory.

>>> import redunet as rn
>>> from redunet import distributed
>>> X, y = rn.datasets.gaussian_mixture(50, n_features=2, random_state=0)
>>> comm = distributed.single()  # distributed.mpi() in a program that mpirun started
>>> mine = slice(comm.rank, None, comm.size)
>>> net, Z = distributed.build(X[mine], y[mine], n_layers=10, comm=comm)
"""

from redunet.distributed.build import build
from redunet.distributed.chunks import Chunks, build_chunks
from redunet.distributed.communicator import Communicator, RankError, Speed
from redunet.distributed.plan import Plan, plan
from redunet.distributed.transports import mpi, single, torch

__all__ = [
    "Chunks",
    "Communicator",
    "Plan",
    "RankError",
    "Speed",
    "build",
    "build_chunks",
    "mpi",
    "plan",
    "single",
    "torch",
]
