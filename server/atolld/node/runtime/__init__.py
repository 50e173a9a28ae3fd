"""Drivers that run containers: the protocol, gVisor's runsc, and a test double.

Knows nothing of sandboxes, templates or slots; "container" and "checkpoint" are words of this folder only.
Imports model and the standard library.
"""
