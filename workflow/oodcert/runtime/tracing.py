"""A Chrome trace of what torch does, of a few seconds: whole jobs would fill gigabytes."""

import signal
from contextlib import contextmanager

from torch.profiler import profile

from oodcert.runtime.files import atomic

SECONDS, LATER = 10, 120


@contextmanager
def traced(path):
    """Writes what torch did in SECONDS of the body, to open in chrome://tracing: a path that ends in .json or .json.gz.

    These are the first seconds or, where the body takes longer than LATER, those that follow then, when all is compiled
    and warm. Operations and kernels with their times, without shapes, stacks and memory. Nothing is written where the
    body raises. It uses SIGALRM, and so works in the main thread alone.
    """
    waits, running, recorded = iter((SECONDS, LATER - SECONDS, SECONDS)), False, None

    def switch(*_):
        nonlocal running, recorded
        if running:
            recorded.stop()
        else:
            recorded = profile()
            recorded.start()
        running = not running
        signal.setitimer(signal.ITIMER_REAL, next(waits, 0))

    before = signal.signal(signal.SIGALRM, switch)
    try:
        switch()
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if running:
            recorded.stop()
    with atomic(path) as temporary:
        recorded.export_chrome_trace(str(temporary))
