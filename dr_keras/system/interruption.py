"""Ctrl-C and SIGTERM become a request that the loop answers between two steps."""

import signal
import threading


class Interruption:
    """Context manager: `requested` holds the signal's number once one has come.

    The first signal only sets the flag, so that a step is never cut in two and the run can be
    saved; a second Ctrl-C interrupts at once. Outside the main thread, where Python takes no
    signal handlers, it does nothing.
    """

    def __init__(self):
        self.requested: int | None = None
        self._previous: dict = {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def _handle(self, number, frame):
        if self.requested is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = number
        print("\nstopping after this step; the run is being saved", flush=True)

    def __exit__(self, *exception):
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def leave(self) -> None:
        """Ends the program the way the signal would have."""
        if self.requested == signal.SIGINT:
            raise KeyboardInterrupt
        if self.requested is not None:
            raise SystemExit(128 + self.requested)
