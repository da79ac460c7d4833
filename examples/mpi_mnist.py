"""Handwritten digits over several processes: mpirun -n 2 python -m mpi4py examples/mpi_mnist.py [FOLDER [LAYERS]]

FOLDER has the four files of MNIST; without it the digits of scikit-learn are taken. Every process has every size-th
digit, and gets the network of all. It shows how ranks work together, not how well a network classifies: of 6000 digits
of MNIST the lifted samples alone gave 0.906 by the same classifier, and these ten layers of six channels 0.855.
"""

import sys
import time

import numpy as np

import redunet as rn
from redunet import distributed

comm = distributed.mpi()
folder = sys.argv[1] if len(sys.argv) > 1 else None
n_layers = int(sys.argv[2]) if len(sys.argv) > 2 else 10

X, y, X_test, y_test = rn.datasets.mnist(folder) if folder else rn.datasets.digits()
own, own_test = slice(comm.rank, len(y), comm.size), slice(comm.rank, len(y_test), comm.size)
n_channels, kernel_size = (6, 9) if folder else (16, 5)  # 60 000 digits of 28 x 28 pixels fit into 8 GB then
lift = rn.RandomLift(n_channels, kernel_size, random_state=0)  # random filters, then ReLU


def lifted(images):
    """Features (m, n_channels, H, W) of images."""
    return lift(images.astype(np.float32))


options = {"n_layers": n_layers, "dft_norm": "backward", "lam": 10 * len(y) / n_channels}  # gates as sharp for any m
started = time.perf_counter()
net, Z = distributed.build(lifted(X[own]), y[own], comm=comm, **options)
seconds = time.perf_counter() - started

few = min(300, len(Z))  # the classifier needs no more than some of everybody's features
Z_few = np.concatenate(comm.share(Z[:few])).reshape(-1, *Z.shape[1:])
classifier = rn.NearestSubspace(n_components=10).fit(Z_few, np.concatenate(comm.share(y[own][:few])))
right = np.array([np.count_nonzero(classifier.predict(net.transform(lifted(X_test[own_test]))) == y_test[own_test])])
comm.all_sum(right)

if comm.rank == 0:
    print(net)
    print(comm)
    print(f"{len(y)} digits, {comm.size} processes: {seconds:.2f} s, accuracy {right[0] / len(y_test):.3f}")
