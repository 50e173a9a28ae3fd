"""Code that runs inside a sandbox. Imports nothing of the server's; only `atoll_wire` may be shared."""
