"""Durable rows: teams, templates, builds, sandboxes. The only SQL of the server.

The door is :class:`Store`. Rows come out as the values of ``atolld.model``; a sandbox's state changes by
compare-and-set only. May import ``model``; knows neither nodes nor HTTP.
"""

from atolld.store.store import Store

__all__ = ["Store"]
