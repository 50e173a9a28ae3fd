import random
import tempfile
import uuid

import numpy as np

from atoll_guest.interpreter.python_kernel import entropy


def test_clones_draw_different_numbers_after_reseeding() -> None:
    drawn: list[tuple[object, ...]] = []
    state, numpy_state = random.getstate(), np.random.get_state()  # pyright: ignore[reportUnknownMemberType]
    for _ in range(2):
        random.setstate(state)
        np.random.set_state(numpy_state)
        entropy.reseed()
        with tempfile.NamedTemporaryFile() as file:
            drawn.append((random.random(), float(np.random.random()), uuid.uuid4(), file.name))
    assert all(one != other for one, other in zip(*drawn, strict=True))
