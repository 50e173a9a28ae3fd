"""A test double: containers are entries of a dictionary, pid 1 is a small HTTP server on the link's address.

With it everything above the runtime is tested without root: it answers ``/health``, ``/init`` (checking the
host's signature when given a key), ``/files`` and ``process.Process/Start`` (every command exits 0).
`fail` makes the next calls of a verb fail; `crash` ends a container by itself.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from atoll_wire import connect, hostauth, process
from atolld.model.errors import HostError
from atolld.node.runtime.protocol import (
    CHECKPOINT_FILES,
    LAYER_FILES,
    CheckpointUnusable,
    ContainerSpec,
    Sharing,
)

ANY_CONTAINER = "fake\n"
"""Contents of a checkpoint that fits every container."""
_JSON = "application/json"


@dataclass(slots=True)
class FakeContainer:
    """What the double remembers of one container; tests look into it."""

    spec: ContainerSpec
    sharing: Sharing | None = None
    """What its restore was asked to share; nothing, after a checkpoint that stands alone."""
    delta: bool = False
    """What its last checkpoint was."""
    is_deaf: bool = False
    """Its daemon takes connections and answers none."""
    frozen: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while it is *not* frozen."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    server: asyncio.Server | None = None
    last_init: dict[str, Any] = field(default_factory=dict[str, Any])
    files: dict[str, bytes] = field(default_factory=dict[str, bytes])
    commands: list[process.Start] = field(default_factory=list[process.Start])
    words: str = ""


class FakeRuntime:
    def __init__(self, host_key: Ed25519PublicKey | None = None) -> None:
        self.containers: dict[str, FakeContainer] = {}
        self.fail: Counter[str] = Counter()
        """Verb → how many of its next calls fail."""
        self.calls: list[str] = []
        self.may_checkpoint = asyncio.Event()
        """Cleared, every checkpoint waits."""
        self.may_checkpoint.set()
        self.silent = False
        """Set, no daemon answers anything."""
        self.deaf = 0
        """How many of the next restores give a deaf daemon."""
        self.sizes: dict[str, int] = {}
        """Container → bytes its checkpoint takes; nothing, where it is not told."""
        self._host_key = host_key

    async def sha256(self) -> str:
        return "0" * 64

    async def patch_level(self) -> str:
        return "fake"

    async def cpu_features(self) -> frozenset[str]:
        return frozenset({"sse2"})

    async def create(self, spec: ContainerSpec) -> None:
        self._enter("create")
        if spec.name in self.containers:
            raise HostError(f"container {spec.name} exists already")
        container = self.containers[spec.name] = FakeContainer(spec)
        if spec.layer is not None:
            saved: dict[str, str] = json.loads((spec.layer / LAYER_FILES[0]).read_text())
            container.files |= {path: content.encode() for path, content in saved.items()}

    async def start(self, spec: ContainerSpec) -> None:
        self._enter("start")
        await self._serve(spec)

    async def restore(self, spec: ContainerSpec, directory: Path, sharing: Sharing | None = None) -> None:
        self._enter("restore")
        missing = [name for name in CHECKPOINT_FILES if not (directory / name).is_file()]
        if missing:
            raise HostError(f"{directory} has no {missing[0]}")
        taken_of = (directory / CHECKPOINT_FILES[0]).read_text()
        if taken_of not in (ANY_CONTAINER, repr(spec.args)):
            raise CheckpointUnusable(f"the checkpoint is of {taken_of}")
        container = self._get(spec.name)
        container.sharing = sharing
        if self.deaf > 0:
            self.deaf -= 1
            container.is_deaf = True
        await self._serve(spec)

    async def checkpoint(
        self, name: str, directory: Path, *, keep_running: bool, delta: bool = False
    ) -> None:
        self._enter("checkpoint")
        await self.may_checkpoint.wait()
        container = self._get(name)
        for file in CHECKPOINT_FILES:
            (directory / file).write_text(repr(container.spec.args))
        (directory / CHECKPOINT_FILES[2]).write_text(secrets.token_hex())
        container.delta = delta
        if not delta:
            container.sharing = None
        if not keep_running:
            await self._end(container, "")

    async def save_layer(self, name: str, directory: Path) -> None:
        self._enter("save_layer")
        await self.may_checkpoint.wait()
        files = {path: content.decode() for path, content in self._get(name).files.items()}
        for file in LAYER_FILES:
            (directory / file).write_text(json.dumps(files))

    async def measure(self, name: str) -> int:
        self._enter("measure")
        return self.sizes.get(name, 0)

    async def freeze(self, name: str) -> None:
        self._enter("freeze")
        self._get(name).frozen.clear()

    async def thaw(self, name: str) -> None:
        self._enter("thaw")
        self._get(name).frozen.set()

    async def wait(self, name: str) -> str:
        container = self.containers.get(name)
        if container is None:
            return ""
        await container.ended.wait()
        return container.words

    async def destroy(self, name: str) -> None:
        container = self.containers.pop(name, None)
        if container is not None:
            await self._end(container, "")
        self._enter("destroy")

    async def list(self) -> frozenset[str]:
        return frozenset(name for name, c in self.containers.items() if not c.ended.is_set())

    async def crash(self, name: str, words: str = "killed by a test") -> None:
        """The container ends by itself, as after a crash of its kernel."""
        await self._end(self._get(name), words)

    def _enter(self, verb: str) -> None:
        self.calls.append(verb)
        if self.fail[verb] > 0:
            self.fail[verb] -= 1
            raise HostError(f"{verb} was told to fail")

    def _get(self, name: str) -> FakeContainer:
        container = self.containers.get(name)
        if container is None or container.ended.is_set():
            raise HostError(f"container {name} does not run")
        return container

    async def _serve(self, spec: ContainerSpec) -> None:
        container = self._get(spec.name)
        if container.server is not None:
            raise HostError(f"container {spec.name} has started already")
        guest = _FakeGuest(container, self._host_key, lambda: self.silent)
        port = int(spec.args[spec.args.index("--port") + 1])
        container.server = await asyncio.start_server(guest.serve, str(spec.link.address.ip), port)
        container.frozen.set()

    async def _end(self, container: FakeContainer, words: str) -> None:
        container.words = words
        container.ended.set()
        container.frozen.set()
        if container.server is not None:
            container.server.close()
            await container.server.wait_closed()


class _FakeGuest:
    """The daemon's part of the wire that the node uses."""

    def __init__(
        self, container: FakeContainer, host_key: Ed25519PublicKey | None, is_silent: Callable[[], bool]
    ) -> None:
        self._container = container
        self._is_silent = is_silent
        self._host_key = host_key
        self._last_ms = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (request := await self._read(reader)) and not self._is_silent():
                if self._container.is_deaf:
                    await self._container.ended.wait()
                    return
                status, content_type, body = self._answer(*request)
                head = f"HTTP/1.1 {status} -\r\nContent-Type: {content_type}\r\n"
                writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> tuple[str, str, dict[str, str], bytes] | None:
        line = await reader.readline()
        await self._container.frozen.wait()
        if not line or self._container.ended.is_set():
            return None
        method, target, _ = line.decode().split(" ", 2)
        headers: dict[str, str] = {}
        while (header := (await reader.readline()).decode().strip()) != "":
            name, _, value = header.partition(":")
            headers[name.lower()] = value.strip()
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        return method, target, headers, body

    def _answer(
        self, method: str, target: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, str, bytes]:
        url = urlsplit(target)
        match method, url.path:
            case "GET", "/health":
                return 204, _JSON, b""
            case "POST", "/init":
                return self._init(headers, body)
            case "POST", "/files":
                self._container.files[parse_qs(url.query)["path"][0]] = body
                return 200, _JSON, b"[]"
            case "POST", "/process.Process/Start":
                return self._start(body)
            case _:
                return 404, _JSON, b'{"code":404,"message":"no such route"}'

    def _init(self, headers: dict[str, str], body: bytes) -> tuple[int, str, bytes]:
        if self._host_key is not None:
            signed = hostauth.parse_header(headers.get(hostauth.HEADER.lower(), ""))
            if signed is None or signed[0] <= self._last_ms:
                return 401, _JSON, b'{"code":401,"message":"not signed by the host"}'
            try:
                self._host_key.verify(signed[1], hostauth.signing_bytes("POST", "/init", signed[0], body))
            except InvalidSignature:
                return 401, _JSON, b'{"code":401,"message":"not signed by the host"}'
            self._last_ms = signed[0]
        self._container.last_init |= json.loads(body)
        return 204, _JSON, b""

    def _start(self, body: bytes) -> tuple[int, str, bytes]:
        (envelope,) = connect.EnvelopeDecoder().feed(body)
        self._container.commands.append(process.parse_start(envelope.payload))
        events = (process.Started(7), process.Ended(0, True, "exit status 0"))
        stream = b"".join(connect.encode_envelope(process.encode_event(event)) for event in events)
        return 200, connect.STREAM_CONTENT_TYPE, stream + connect.encode_end()
