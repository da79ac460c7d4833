"""What experiments need beside NumPy: packages, and MNIST's files. Looked for before any work is done."""

from __future__ import annotations

import importlib.util

#: Names of packages for people, and what installs them.
PACKAGES = {
    "aeon": ("aeon", "aeon"),
    "matplotlib": ("matplotlib", "'redunet[plot]'"),
    "pyts": ("pyts", "pyts"),
    "scipy": ("SciPy", "scipy"),
    "skimage": ("scikit-image", "'redunet[image]'"),
    "sklearn": ("scikit-learn", "'redunet[sklearn]'"),
    "torch": ("PyTorch", "'redunet[torch]'"),
    "tslearn": ("tslearn", "tslearn"),
}


def is_here(package: str) -> bool:
    """Whether a package can be imported, which is not done."""
    return importlib.util.find_spec(package) is not None


def how_to_install(package: str) -> str:
    """What is missing, and the command that brings it."""
    name, source = PACKAGES[package]
    return f"{name}: pip install {source}"


def require(*packages: str) -> None:
    """An error for the first of these packages that is missing.

    Raises
    ------
    ImportError
        "this experiment needs ...: pip install ...".
    """
    for package in packages:
        if not is_here(package):
            raise ImportError(f"this experiment needs {how_to_install(package)}")
