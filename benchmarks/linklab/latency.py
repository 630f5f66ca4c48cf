"""Latency that the kernel cannot add: a receiver sleeps until a message would have arrived.

`arrives = max(arrives, sent) + bits / bandwidth + latency`: a message waits for the one before it, then takes the time
of its bits and the latency of the link.

What this can do: lengthen a collective, or a whole step, by what a farther link would have taken, with the messages of
one receiver in a queue. A message that took longer than that in fact is not delayed. What it cannot do: it knows when
the receiver entered the collective, not when the sender did, and the backend exchanges several messages in one
collective, which are delayed together, by `messages` latencies. Where messages overlap the delay is an upper bound.
Each delayed collective calls back into Python twice, which takes some tens of microseconds.
"""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import io_callback


@dataclasses.dataclass
class Receiver:
    """One end of a link, which waits for messages.

    Attributes:
      bits_per_second: bandwidth; None leaves the bits to the real link.
      latency_s: seconds per message.
      clock: returns the time in seconds.
      sleep: waits for so many seconds.

    >>> times = iter([0.0, 0.0, 1.0])
    >>> link = Receiver(8.0, 0.5, clock=lambda: next(times), sleep=print)
    >>> link.sent()
    >>> link.wait(nbytes=2)  # 16 bits take 2 s, and the latency half a second
    2.5
    """

    bits_per_second: float | None
    latency_s: float
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    _sent: float = dataclasses.field(default=0.0, init=False)
    _arrives: float = dataclasses.field(default=0.0, init=False)

    def sent(self) -> None:
        """Note that messages are being sent."""
        self._sent = self.clock()

    def wait(self, nbytes: float, messages: int = 1) -> None:
        """Sleep until messages that were sent would have arrived.

        Args:
          nbytes: that they carry together.
          messages: that follow one another.
        """
        bits_s = 0.0 if self.bits_per_second is None else 8 * nbytes / self.bits_per_second
        self._arrives = max(self._arrives, self._sent) + bits_s + messages * self.latency_s
        left = self._arrives - self.clock()
        if left > 0:
            self.sleep(left)


def delayed(
    collective: Callable[[jax.Array], jax.Array], link: Receiver, nbytes: float, messages: int = 1
) -> Callable[[jax.Array], jax.Array]:
    """Return a collective with the same result, which ends when its messages would have arrived; `jit` may hold it."""

    def run(x: jax.Array) -> jax.Array:
        y = collective(_after(link.sent, x))
        return _after(lambda: link.wait(nbytes, messages), y)

    return run


def _after(action: Callable[[], None], x: jax.Array) -> jax.Array:
    """Return `x`, once `action` has run, which runs once `x` is there."""

    def call(_: Any) -> np.ndarray:
        action()
        return np.array(True)

    done = io_callback(call, jax.ShapeDtypeStruct((), jnp.bool_), x.ravel()[0])
    return jnp.where(done, x, jnp.zeros_like(x))
