"""atolld, the server: control API, the door to the sandboxes, and the node that runs them.

Rooms, each importing only what is below it (checked by import-linter):
``__main__ → daemon → api | proxy | setup → control → builds → node | store → config | telemetry → model``.
"""
