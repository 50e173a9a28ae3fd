from __future__ import annotations

import socket

from atolld.proxy.listen import open_listeners


def test_accepted_connections_send_at_once():
    (listener, *others) = open_listeners("127.0.0.1", 0)
    try:
        with socket.create_connection(listener.getsockname(), timeout=5):
            listener.settimeout(5)
            accepted, _ = listener.accept()
            with accepted:
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    finally:
        for it in (listener, *others):
            it.close()
