"""What `bench density` runs in the sandboxes it measures."""

GROUP_BY = """
import numpy as np, pandas as pd
_frame = pd.DataFrame({"key": np.arange(10000) % 7, "value": np.arange(10000) * 0.5})
_frame.groupby("key").value.mean().sum()
"""

HOLD_MUCH = "import os; filler = bytearray(os.urandom(1 << 20)) * 500"
CHANGE_TEN = """
for _place in range(0, 10 << 20, 4096):
    filler[_place] ^= 1
"""
"""Ten MiB of them, page by page."""

WRITE_ALL = """
def _write_all():
    import ctypes, json, os, time
    import numpy as np

    def find():
        with open("/proc/self/maps") as maps:
            rows = [line.split() for line in maps]
        for row in rows:
            if row[1] == "rw-p" and row[5:] != ["[stack]"]:
                begin, end = (int(part, 16) for part in row[0].split("-"))
                yield np.frombuffer((ctypes.c_char * (end - begin)).from_address(begin), np.uint64)

    def write(regions):
        begin = time.perf_counter()
        for region in regions:
            np.bitwise_or(region, 0, out=region)
        return sum(region.nbytes for region in regions) / (1 << 20) / (time.perf_counter() - begin)

    there, here = os.pipe()
    if (child := os.fork()) == 0:
        regions = list(find())
        first = write(regions)
        later = sorted(write(regions) for _ in range(9))[4]
        os.write(here, json.dumps({"first": first, "later": later}).encode())
        os._exit(0)
    os.waitpid(child, 0)
    return os.read(there, 1000).decode()

print(_write_all())
"""
"""Every private page of the kernel, each byte with what it holds, in a child that does nothing beside; MiB/s
of the first pass, and of those after it."""
