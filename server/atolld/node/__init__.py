"""How a sandbox runs on this machine.

The door is :class:`Node`; the rest is its own affair: `agent` (life, pool, adoption) over `launcher` (makes
runs), `pool` (pure plan), `slots` (kernel resources), `rootfs`, `guest` (calls to envd), `verify` (damaged
builds), `surroundings` and `egress` (what this host passes on), `runtime` (drivers) and `linux` (netns,
cgroups, rules). Imports model, config and atoll_wire. Tests above this room use `doubles.FakeMachine`.
"""

from atolld.node.agent import Node, SandboxEnded, Started, StartSpec
from atolld.node.guest import GuestClient
from atolld.node.slots import KernelSlots, Slot, Slots
from atolld.node.surroundings import Surroundings, look_around

__all__ = [
    "GuestClient",
    "KernelSlots",
    "Node",
    "SandboxEnded",
    "Slot",
    "Slots",
    "StartSpec",
    "Started",
    "Surroundings",
    "look_around",
]
