"""The front door: one HTTP/1.1 port for the control API and for every sandbox.

Owns the data plane: request head → decision (pure, :mod:`.routing`) → a connection to the sandbox's address
or to the API's socket → bytes as they come. Only heads are parsed; a body is measured (:mod:`.framing`) and
never looked into. Each request is decided by itself, because one keep-alive connection may carry requests for
the API and for sandboxes.

Imports ``model`` and the wire contract; knows no use-case: a sandbox that sleeps is woken by the function it
is given.
"""

from atolld.proxy.door import FrontDoor
from atolld.proxy.overhead import Overhead, measure_overhead

__all__ = ["FrontDoor", "Overhead", "measure_overhead"]
