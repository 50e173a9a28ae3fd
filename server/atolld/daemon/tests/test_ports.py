from __future__ import annotations

import os
import socket

import pytest

from atolld.daemon.ports import check_port, find_listener
from atolld.model.errors import HostError


def test_a_taken_port_is_told_with_its_holder() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(HostError, match=rf"127.0.0.1:{port}.*process {os.getpid()}.*ATOLL_PORT"):
            check_port("127.0.0.1", port)
    check_port("127.0.0.1", port)
    assert find_listener(port) is None


def test_an_address_that_is_not_ours_is_told() -> None:
    with pytest.raises(HostError, match=r"192\.0\.2\.1:8600"):
        check_port("192.0.2.1", 8600)
