"""Samples to spectra and back, and what spectra are good for."""
