"""Signals without the `signal` module, whose enumerations cost 3 ms of every start."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as signals
else:
    import _signal as signals

__all__ = ["signals"]
