"""The composition root: builds the parts and says in which order they start and stop.

The only room that names a concrete runtime. ``serve`` and ``down`` are its programs; both hold one lock
(:mod:`.lock`), for two nodes on one state directory would take each other's sandboxes for left-overs.
"""
