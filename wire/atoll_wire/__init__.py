"""The wire contract as sans-I/O code: what bytes mean, never how they travel.

Owns the formats that the server, the guest and the clients share: host names and routing headers, Connect
envelopes, the messages of the daemon and the interpreter, the control API's bodies, signatures.
May import: the standard library only, and nothing of it that does I/O.
"""
