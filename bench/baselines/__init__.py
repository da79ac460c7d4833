"""Rivals written by hand: the authors' algorithm as they run it, and the best of a skilled PyTorch or NumPy
user.
"""
