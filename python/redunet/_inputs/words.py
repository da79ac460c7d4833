"""The choices that are words, as types: what public signatures say, and checkers of users' programs know.

What is accepted is checked where it is used; a test holds these against it.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

Backend: TypeAlias = Literal["auto", "cuda", "cpu", "numpy"]
Group: TypeAlias = Literal["cyclic", "dihedral"]
DftNorm: TypeAlias = Literal["ortho", "backward"]
Assignment: TypeAlias = Literal["estimated", "given"]
Keep: TypeAlias = Literal["operators", "features"]
StepRule: TypeAlias = Literal["auto", "search"]
Mean: TypeAlias = Literal["zero", "estimate"]
Unit: TypeAlias = Literal["nats", "bits"]
Length: TypeAlias = Literal["full", "rate"]
Criterion: TypeAlias = Literal["length", "rate"]
Stop: TypeAlias = Literal["best", "first"]
Activation: TypeAlias = Literal["relu", "identity", "soft"]
Boundary: TypeAlias = Literal["cyclic", "zero"]
Source: TypeAlias = Literal["random", "patches"]
Layout: TypeAlias = Literal["auto", "samples", "frequencies"]
