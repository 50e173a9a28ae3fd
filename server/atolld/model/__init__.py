"""The server's vocabulary: a sandbox's life, templates and their builds, errors.

Owns the words every other room uses. Pure: imports the standard library only, does no I/O.
"""
