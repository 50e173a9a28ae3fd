"""What runsc is told about a container, as plain values: the OCI configuration and the network's arguments.

Pure. A checkpoint is restored only into a container with the same mounts, capabilities, limits of processes
and arguments, so nothing here may depend on the slot except what runsc lets vary: paths, hostname,
environment, resources. Formats: OCI runtime-spec 1.1 `config.json`; `boot.CreateLinksAndRoutesArgs` of the
pinned gVisor.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Network
from pathlib import Path

from atolld.model.sandbox import Resources
from atolld.node.runtime.protocol import NO_LINK, ContainerSpec, Link

GUEST_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
HOST_DIRECTORY = "host"
"""Below the container's directory: an empty directory, runsc wants one as the root's path."""

CAPABILITIES = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_ADMIN",
    "CAP_SYS_CHROOT",
    "CAP_SYS_NICE",
    "CAP_SYS_PTRACE",
    "CAP_SYS_RESOURCE",
]
"""A usual container's, without NET_RAW (forged packets) and MKNOD. SYS_ADMIN and SYS_PTRACE reach gVisor's
kernel only; hostname, mounts and debuggers of a machine "of one's own" need them."""
_OPEN_FILES = 1 << 20
_MIB = 1 << 20
_CPU_PERIOD_US = 100_000


def build_config(spec: ContainerSpec, *, gofer: bool = False) -> dict[str, object]:
    """`config.json` of the container. ``gofer``: for a runsc without our changes, which opens the disk file
    of the writable layer only for a container that has a gofer process.
    """
    return {
        "ociVersion": "1.1.0",
        "hostname": spec.hostname,
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": list(spec.args),
            "env": [f"{name}={value}" for name, value in {"PATH": GUEST_PATH, **spec.envs}.items()],
            "cwd": "/",
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), CAPABILITIES),
            "rlimits": [{"type": "RLIMIT_NOFILE", "soft": _OPEN_FILES, "hard": _OPEN_FILES}],
            "noNewPrivileges": False,  # sudo
        },
        "root": {"path": str(spec.directory / HOST_DIRECTORY)},
        "mounts": _mounts(spec, gofer=gofer),
        "annotations": {
            # A checkpoint is restored only with the very path it was taken with. This one is the same below
            # every state directory: runsc is started in the one that holds the images.
            "dev.gvisor.spec.rootfs.source": f"/proc/self/cwd/{spec.root_image.name}",
            "dev.gvisor.spec.rootfs.type": "erofs",
            # Only that it is a directory counts here, and must be the same at save and restore: which one it
            # is comes from the flag.
            "dev.gvisor.spec.rootfs.overlay": "dir=/",
            "dev.gvisor.spec.rootfs.options": f"size={spec.resources.disk_mib}m",
        },
        "linux": {
            "namespaces": [
                *({"type": kind} for kind in ("pid", "ipc", "uts", "mount")),
                {"type": "network", "path": spec.link.namespace_path},
            ],
            "cgroupsPath": spec.cgroup_path,
            "resources": {
                "memory": {"limit": spec.resources.memory_mib * _MIB},
                "cpu": {"quota": spec.resources.vcpu * _CPU_PERIOD_US, "period": _CPU_PERIOD_US},
            },
        },
    }


def runsc_flags(root: str, spec: ContainerSpec | None = None) -> list[str]:
    """Flags that come before the subcommand. Without ``spec``: for a command on a container that exists."""
    flags = [
        f"--root={root}",
        "--platform=systrap",  # /dev/kvm may be there and unusable
        "--network=sandbox",
        "--gofer-network-namespace=new",  # the default leaves a mount behind
        "--directfs=false",  # the stricter syscall filters
        "--host-settings=ignore",  # the server decides about sysctls, once, not every container
        "--allow-suid=true",  # sudo
    ]
    if spec is not None:
        flags += [
            f"--overlay2=root:dir={spec.directory}",
            f"--log={spec.directory / 'runsc.log'}",
            f"--panic-log={spec.directory / 'panic.log'}",
        ]
    return flags


def snapshot_fingerprint(args: Sequence[str]) -> str:
    """Lower-case hex of all that a checkpoint and the container it is restored into must have in common,
    besides the root image and the resources: what pid 1 is, mounts, capabilities, flags. A snapshot with
    another one must be made anew.
    """
    spec = ContainerSpec("", Path(), Path(), Resources(), NO_LINK, "", tuple(args))
    shape = json.dumps([build_config(spec), runsc_flags("", spec)], sort_keys=True)
    return hashlib.sha256(shape.encode()).hexdigest()


def network_args(link: Link, *, restore: bool) -> dict[str, object]:
    """Loopback and the one interface, for ``SetNetworkArgs``; its packet socket goes beside it."""
    network = link.address.network
    return {
        "LoopbackLinks": [
            {
                "Name": "lo",
                "Addresses": [_address("127.0.0.1", 8), _address("::1", 128)],
                "Routes": [_route(IPv4Network("127.0.0.0/8"))],
            }
        ],
        "FDBasedLinks": [
            {
                "Name": link.interface,
                "MTU": link.mtu,
                "Addresses": [_address(str(link.address.ip), network.prefixlen)],
                "Routes": [_route(network)],
                "GSOMaxSize": 65536,
                "RXChecksumOffload": True,
                "LinkAddress": _base64(link.mac),
                "QDisc": 1,  # fifo
                "NumChannels": 1,
                "Neighbors": [{"IP": link.gateway, "HardwareAddr": _base64(link.gateway_mac)}],
            }
        ],
        "Defaultv4Gateway": {
            "Name": link.interface,
            "Route": {**_route(IPv4Network("0.0.0.0/0")), "Gateway": link.gateway},
        },
        "IsRestore": restore,
    }


def _mounts(spec: ContainerSpec, *, gofer: bool) -> Sequence[Mapping[str, object]]:
    """The last one is empty and there for runsc alone: with a mount below it, runsc does not cover an empty
    ``/tmp`` with memory that counts against the sandbox's limit. A bind mount is served by a gofer process,
    5 MB of memory for each sandbox.
    """
    empty = {
        "destination": "/tmp/.host",  # noqa: S108
        "type": "tmpfs",
        "source": "tmpfs",
        "options": ["ro", "nosuid", "nodev", "noexec", "size=4k"],
    }
    if gofer:
        options = ["bind", "ro", "nosuid", "nodev", "noexec"]
        empty |= {"type": "bind", "source": str(spec.directory / HOST_DIRECTORY), "options": options}
    return [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro", "nosuid", "noexec"]},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
        {
            "destination": "/dev/shm",  # noqa: S108
            "type": "tmpfs",
            "source": "shm",
            "options": ["nosuid", "nodev", "mode=1777"],
        },
        empty,
    ]


def _address(address: str, prefix: int) -> Mapping[str, object]:
    return {"Address": address, "PrefixLen": prefix}


def _route(network: IPv4Network) -> Mapping[str, object]:
    mask = _base64(network.netmask.packed)
    return {"Destination": {"IP": str(network.network_address), "Mask": mask}}


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
