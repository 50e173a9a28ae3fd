"""How a sandbox runs on this machine.

The door is :class:`Node` in `agent`; the rest is its own affair. `keeper` keeps the pool, `adoption` settles
what a dead server left, `placement` gets a run for a sandbox, `resting` holds paused ones in memory, `blanks`
those that wait for a snapshot, `pageout` lets frozen ones leave memory, and those that `idle` finds,
`captures` takes snapshots; all over `launcher` (makes runs), `unwinding` (loses none), `watches` (sees them
end). Pure plans: `pool`, `residents`, `memory`. Parts: `slots` (kernel resources), `rootfs`, `snapshots`
(files), `guest` (calls to envd), `verify` (damaged builds), `surroundings` and `egress` (what this host
passes on), `runtime` (drivers), `linux` (netns, cgroups, paging, rules). Imports model, config, atoll_wire.
Tests above this room use `doubles.FakeMachine`.
"""

from atolld.node.agent import Node
from atolld.node.captures import Target
from atolld.node.guest import GuestClient
from atolld.node.records import list_used_images
from atolld.node.rootfs import check_free_space
from atolld.node.slots import KernelSlots, Slot, Slots
from atolld.node.starting import SandboxEnded, Started, StartSpec
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
    "Target",
    "check_free_space",
    "list_used_images",
    "look_around",
]
