"""Fresh random state for a process that was restored from a snapshot: clones must not draw the same
numbers.
"""

import sys
from typing import Any


def reseed() -> None:
    """Every generator with a state in this process that we know of. Costs well under a millisecond."""
    import random

    random.seed()
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None and "numpy.random" in sys.modules:
        numpy.random.seed()
    uuid: Any = sys.modules.get("uuid")
    if uuid is not None:
        uuid._node = None
        uuid._last_timestamp = None
    tempfile: Any = sys.modules.get("tempfile")
    if tempfile is not None:
        tempfile._name_sequence = None
    _reseed_openssl()
    torch: Any = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "seed"):
        torch.seed()


def _reseed_openssl() -> None:
    """OpenSSL notices a fork by the process id, but not a restored memory: keys of two clones would be the
    same.
    """
    ssl: Any = sys.modules.get("ssl")
    if ssl is not None:
        import os

        ssl.RAND_add(os.urandom(32), 32.0)
