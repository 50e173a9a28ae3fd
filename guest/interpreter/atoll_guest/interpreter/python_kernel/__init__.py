"""What runs inside the Python kernel's process: ipykernel with our output streams, formatters and hooks.

Imports no other room of the service but `charts`, `figures` and `zmtp`. Works without pandas, matplotlib, PIL
and numpy: their parts are registered by name and only run when the user's code has imported them.
"""
