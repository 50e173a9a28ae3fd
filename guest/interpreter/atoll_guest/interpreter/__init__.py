"""The code interpreter: the HTTP service on port 49999 of the template `code-interpreter-v1`.

A request's way: `http` (bytes) → `server` (routes) → `contexts` (which one, queueing) → `kernel` (a real
Jupyter process) → `messages` (Jupyter message → wire events, pure) → one line per event, flushed.

Rooms
    http            a small HTTP/1.1 server that notices a client's disconnect
    server          the routes of the wire, and their error texts
    contexts        all contexts: default ones, create, list, restart, remove
    context         one: kernel + language + cwd; queueing, interrupt, the death of its kernel
    execution       one `run_code` on one kernel: its environment, its events
    kernel          start, talk to, interrupt, stop a Jupyter kernel; `processes` reaps it
    channels zmtp   ZeroMQ's wire protocol over unix sockets and TCP, without libzmq (memory, back-pressure)
    jupyter         the Jupyter message format (pure)
    messages        Jupyter message → wire events → lines (pure)
    languages       names of languages, environment snippets (pure); `kernelspecs` finds installed kernels
    limits          how large a result, how fast the output may be
    identity        which sandbox this is (a clone?), the sandbox's global environment from envd
    settle          makes a Python process ready for a snapshot
    memory          how much there is; `happenings`: what envd ended when it ran out
    charts          matplotlib Figure → chart data (pure-ish; runs inside the Python kernel)
    figures         Plotly's and Vega-Lite's figures → chart data (pure)
    bash_kernel     a Bash kernel of ours; node_kernel: one for JavaScript and TypeScript
    python_kernel   what runs inside the Python kernel's process: launcher, formatters, output streams

Standard library, httptools; inside the Python kernel also ipykernel. pandas and matplotlib are never
required.
"""
