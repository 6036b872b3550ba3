"""Ablation harness: what to freeze, and which training tricks are worth it, when fine-tuning image models."""

__version__ = "0.1.0"

NUMERICS = 2
"""Version of everything that decides the numbers of a training; raise it when the golden losses change."""
