"""Use-cases, no HTTP: what a team can do with sandboxes, templates and keys.

``Sandboxes`` is the door for a sandbox's life, ``Keys`` for who is asking, ``Templates`` for what a name
stands for. May import ``builds``, ``node`` (its door only), ``store`` and below.
"""
