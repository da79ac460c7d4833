"""The network: `build` constructs it layer by layer, `ReduNet` holds it and maps new samples through it."""

from redunet.network.build import BuildInterrupted, build
from redunet.network.forgetting import forget_class
from redunet.network.grams import ClassGrams
from redunet.network.layers import Layer, Layers, Rates
from redunet.network.redunet import ReduNet, load

__all__ = [
    "BuildInterrupted",
    "ClassGrams",
    "Layer",
    "Layers",
    "Rates",
    "ReduNet",
    "build",
    "forget_class",
    "load",
]
