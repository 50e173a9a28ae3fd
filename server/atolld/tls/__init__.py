"""https and the domain: Caddy in front of the front door, its certificates, and who trusts them.

Owns ``tls/`` of the state directory, one Caddy process (:mod:`.process`, watched by :mod:`.front`), its
configuration (pure, :mod:`.caddy`), our own certificate authority (:mod:`.authority`), and what clients need
to trust it (:mod:`.bundle`, :mod:`.trust`). Caddy ends TLS and HTTP/2 and passes every request to the front
door as it came, Host included: what a name means is decided there, once.

Imports ``builds`` for files and tools, and below; knows no use-case. The other skins are strangers.
"""

from atolld.tls.front import TlsFront, open_front
from atolld.tls.health import Health, examine_https
from atolld.tls.resolve import Resolution, resolves_to_us

__all__ = ["Health", "Resolution", "TlsFront", "examine_https", "open_front", "resolves_to_us"]
