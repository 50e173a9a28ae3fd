"""The composition root: builds the parts and says in which order they start and stop.

The only room that names a concrete runtime. ``serve`` and ``down`` are its programs; both, and a set-up that
builds templates, hold one lock (:mod:`.lock`): two nodes on one state directory would take each other's
sandboxes for left-overs.
"""
