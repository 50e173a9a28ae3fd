"""The kernel's loop: one request at a time; output goes out as bash writes it."""

import codecs
import json
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import zmq

from atoll_guest.interpreter import jupyter

from .shell import Shell, ShellEnded

_HIGH_WATER = 8
_INFO = {
    "status": "ok",
    "protocol_version": "5.3",
    "implementation": "atoll_bash",
    "implementation_version": "1",
    "language_info": {"name": "bash", "mimetype": "text/x-sh", "file_extension": ".sh"},
    "banner": "bash",
}


class BashKernel:
    """Listens on the sockets of the connection file from the start."""

    def __init__(self, connection: dict[str, Any]) -> None:
        context: Any = zmq.Context()
        self._key = str(connection["key"]).encode()
        self._shell_socket = self._bind(context.socket(zmq.ROUTER), connection, "shell_port")
        output = context.socket(zmq.XPUB)
        output.setsockopt(zmq.SNDHWM, _HIGH_WATER)
        output.setsockopt(zmq.XPUB_NODROP, 1)  # output that finds its reader slow waits
        self._output = self._bind(output, connection, "iopub_port")
        self._bash = Shell()
        self._count = 0
        self._parent: dict[str, Any] = {}
        self._decoders: dict[str, codecs.IncrementalDecoder] = {}

    @staticmethod
    def _bind(found: Any, connection: dict[str, Any], port: str) -> Any:
        separator = "-" if connection["transport"] == "ipc" else ":"
        found.bind(f"{connection['transport']}://{connection['ip']}{separator}{connection[port]}")
        return found

    def serve(self) -> None:
        while True:
            frames: list[bytes] = self._shell_socket.recv_multipart()
            start = frames.index(b"<IDS|MSG>")
            header, content = json.loads(frames[start + 2]), json.loads(frames[start + 5])
            self._parent = header
            self._publish("status", {"execution_state": "busy"})
            kind, answer = self._answer(header["msg_type"], content)
            self._shell_socket.send_multipart([*frames[:start], *self._frames(kind, answer)])
            self._publish("status", {"execution_state": "idle"})

    def _answer(self, kind: str, content: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        match kind:
            case "kernel_info_request":
                return "kernel_info_reply", _INFO
            case "execute_request":
                return "execute_reply", self._execute(content)
            case _:
                return kind.replace("_request", "_reply"), {"status": "error", "ename": "NotSupported"}

    def _execute(self, content: dict[str, Any]) -> dict[str, Any]:
        silent = bool(content.get("silent"))
        if not silent:
            self._count += 1
            self._publish("execute_input", {"code": content["code"], "execution_count": self._count})
        self._decoders = {
            name: codecs.getincrementaldecoder("utf-8")("replace") for name in ("stdout", "stderr")
        }
        problem = self._run(str(content["code"]), silent)
        if problem is None:
            return {"status": "ok", "execution_count": self._count, "user_expressions": {}}
        failure = {"ename": problem[0], "evalue": problem[1], "traceback": [f"{problem[0]}: {problem[1]}"]}
        if not silent:
            self._publish("error", failure)
        return {"status": "error", "execution_count": self._count, **failure}

    def _run(self, code: str, silent: bool) -> tuple[str, str] | None:
        """(name, value) of the error."""

        def write(name: str, data: bytes) -> None:
            text = self._decoders[name].decode(data)
            if text and not silent:
                self._publish("stream", {"name": name, "text": text})

        try:
            status = self._bash.run(code, write)
        except ShellEnded as ended:
            self._bash.close()
            self._bash = Shell()
            if ended.status == 0:
                return None
            return "ExitStatus", f"{ended.status} (bash has ended; a new one was started)"
        if status == 130:
            return "KeyboardInterrupt", ""
        return ("ExitStatus", str(status)) if status else None

    def _publish(self, kind: str, content: dict[str, Any]) -> None:
        self._output.send_multipart([kind.encode(), *self._frames(kind, content)])

    def _frames(self, kind: str, content: dict[str, Any]) -> list[bytes]:
        date = datetime.now(UTC).isoformat()
        return jupyter.encode(kind, content, session="bash", date=date, key=self._key, parent=self._parent)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is for bash, which is in our process group
    BashKernel(json.loads(Path(sys.argv[2]).read_text())).serve()
