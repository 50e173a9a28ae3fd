"""Atoll for those who use it: the command line (`cli/`).

Owns what a user types and sees. May import: `atoll_wire` and libraries, never the server or the guest; it
speaks HTTP to the server, and starts `python -m atolld …` for what only the machine's own program may do.
"""
