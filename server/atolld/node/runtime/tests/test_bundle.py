"""What a container is told: the promises to snapshots and to the host."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import IPv4Interface
from pathlib import Path
from typing import Any, cast

import pytest

from atolld.model.sandbox import Resources
from atolld.node.runtime.bundle import build_config, network_args, runsc_flags, snapshot_fingerprint
from atolld.node.runtime.protocol import ContainerSpec, Link


def no_socket() -> int:
    raise AssertionError("the bundle opens nothing")


@pytest.fixture
def spec() -> ContainerSpec:
    link = Link(
        interface="eth0",
        address=IPv4Interface("10.213.0.6/30"),
        gateway="10.213.0.5",
        mac=bytes(6),
        gateway_mac=bytes([2, 0, 0, 0, 0, 1]),
        mtu=1400,
        namespace_path="/proc/1/fd/9",
        open_packet_socket=no_socket,
    )
    return ContainerSpec(
        name="s1",
        directory=Path("/run/s1"),
        root_image=Path("/roots/base.erofs"),
        resources=Resources(vcpu=2, memory_mib=512, disk_mib=2048),
        link=link,
        cgroup_path="/atoll/s1",
        args=("/.atoll/envd", "--port", "49983"),
        envs={"A": "1"},
    )


def config_of(spec: ContainerSpec) -> dict[str, Any]:
    return cast(dict[str, Any], json.loads(json.dumps(build_config(spec))))


def test_all_that_a_restore_compares_is_the_same_in_every_slot(spec: ContainerSpec) -> None:
    link = replace(spec.link, address=IPv4Interface("10.213.0.10/30"), namespace_path="/proc/1/fd/10")
    other = replace(
        spec,
        name="s2",
        directory=Path("/run/s2"),
        link=link,
        cgroup_path="/atoll/s2",
        root_image=Path("/elsewhere/base.erofs"),
    )
    one, two = config_of(spec), config_of(other)
    assert one["annotations"] == two["annotations"]
    assert one["process"] == two["process"]
    for mount_one, mount_two in zip(one["mounts"], two["mounts"], strict=True):
        assert mount_one | {"source": ""} == mount_two | {"source": ""}


def test_the_guest_has_no_raw_sockets_and_makes_no_devices(spec: ContainerSpec) -> None:
    for granted in config_of(spec)["process"]["capabilities"].values():
        assert not {"CAP_NET_RAW", "CAP_NET_ADMIN", "CAP_MKNOD", "CAP_SYS_MODULE"} & set(granted)


def test_the_resources_are_the_limits(spec: ContainerSpec) -> None:
    config = config_of(spec)
    assert config["linux"]["resources"]["memory"]["limit"] == 512 << 20
    assert config["linux"]["resources"]["cpu"] == {"quota": 200_000, "period": 100_000}
    assert config["annotations"]["dev.gvisor.spec.rootfs.options"] == "size=2048m"


def test_nothing_of_the_host_is_mounted(spec: ContainerSpec) -> None:
    assert all(mount["type"] != "bind" for mount in config_of(spec)["mounts"])


def test_a_stock_runsc_has_an_empty_directory_of_the_host(spec: ContainerSpec) -> None:
    mounts = cast(dict[str, Any], build_config(spec, gofer=True))["mounts"]
    bound = [mount for mount in mounts if mount["type"] == "bind"]
    assert [mount["source"] for mount in bound] == ["/run/s1/host"]
    assert "ro" in bound[0]["options"]


def test_the_stricter_filters_and_never_kvm(spec: ContainerSpec) -> None:
    flags = runsc_flags("/run/runsc", spec)
    assert {"--directfs=false", "--platform=systrap", "--overlay2=root:dir=/run/s1"} <= set(flags)


def test_the_network_has_one_way_out(spec: ContainerSpec) -> None:
    args = cast(dict[str, Any], network_args(spec.link, restore=True))
    assert args["IsRestore"] is True
    (link,) = args["FDBasedLinks"]
    assert link["Addresses"] == [{"Address": "10.213.0.6", "PrefixLen": 30}]
    assert link["MTU"] == 1400
    assert link["Neighbors"] == [{"IP": "10.213.0.5", "HardwareAddr": "AgAAAAAB"}]
    assert args["Defaultv4Gateway"]["Route"]["Gateway"] == "10.213.0.5"


def test_a_snapshot_of_another_daemon_has_another_fingerprint() -> None:
    assert snapshot_fingerprint(["/envd", "--host-key", "a"]) != snapshot_fingerprint(
        ["/envd", "--host-key", "b"]
    )
    assert snapshot_fingerprint(["/envd"]) == snapshot_fingerprint(["/envd"])
