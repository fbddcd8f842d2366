"""A Chrome trace of what torch does, of a few seconds: whole jobs would fill gigabytes."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch.profiler import profile

from oodcert.runtime.files import atomic

SECONDS, LATER = 10, 120


@contextmanager
def traced(path: str | Path) -> Iterator[None]:
    """Writes what torch did in some seconds of the body, to open in chrome://tracing.

    These are the first SECONDS of the body. Where it takes longer than LATER, they are the SECONDS that follow then,
    when all is compiled and warm. The trace holds operations and kernels with their times, without shapes, stacks and
    memory. Nothing is written where the body raises. SIGALRM is in use meanwhile, so this works in the main thread
    alone.

    Args:
        path: Of the trace; it ends in .json or .json.gz.

    Yields:
        Nothing: the body is traced.
    """
    recorder = _Recorder()
    before = signal.signal(signal.SIGALRM, lambda *_: recorder.switch())
    try:
        recorder.switch()
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if recorder.running:
            recorder.profile.stop()
    with atomic(path) as temporary:
        recorder.profile.export_chrome_trace(str(temporary))


class _Recorder:
    """Records what torch does, on and off by a timer: on at once, off after SECONDS, on again from LATER on."""

    def __init__(self) -> None:
        self.running, self.profile = False, profile()
        self._waits = iter((SECONDS, LATER - SECONDS, SECONDS))

    def switch(self) -> None:
        """Starts a new recording or stops the running one, and sets the timer for the next switch."""
        if self.running:
            self.profile.stop()
        else:
            self.profile = profile()
            self.profile.start()
        self.running = not self.running
        signal.setitimer(signal.ITIMER_REAL, next(self._waits, 0))
