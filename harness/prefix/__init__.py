"""The frozen part of a network computed once: where it ends, what is kept of it, and how training goes on from there.

A shortcut: it gives the bits of the plain path or is refused.
"""
