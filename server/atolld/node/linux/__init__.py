"""The only code that touches the kernel's own objects: network namespaces and links, cgroups, packet rules.

Each function makes or removes one object and raises ``HostError`` with what to do. Only `slots` and
`inventory` import this folder.
"""
