"""Wrong clock for Python processes with this folder on PYTHONPATH.

FDBPL_FAULT_CLOCK: seconds that it is ahead. FDBPL_FAULT_CLOCK_LOSES: seconds that it loses with every call.
"""

import os
import time

_true, _true_ns = time.time, time.time_ns
_ahead = [float(os.environ.get("FDBPL_FAULT_CLOCK", 0))]
_loses = float(os.environ.get("FDBPL_FAULT_CLOCK_LOSES", 0))


def _time() -> float:
    _ahead[0] -= _loses
    return _true() + _ahead[0]


def _time_ns() -> int:
    return _true_ns() + int((_time() - _true()) * 1e9)


time.time, time.time_ns = _time, _time_ns
