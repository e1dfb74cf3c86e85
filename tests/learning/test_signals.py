from __future__ import annotations

import os
import signal
import threading

import pytest

from covermap.learning.signals import StopRequest


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_becomes_a_request_and_handlers_come_back(number):
    before = signal.getsignal(number)
    stop = StopRequest()
    stop.install()
    try:
        os.kill(os.getpid(), number)
        assert stop.requested
    finally:
        stop.restore()
    assert signal.getsignal(number) is before


def test_a_second_interrupt_does_not_wait():
    stop = StopRequest()
    stop.install()
    try:
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        stop.restore()


def test_other_threads_leave_signals_alone():
    before = signal.getsignal(signal.SIGINT)
    stop = StopRequest()
    thread = threading.Thread(target=stop.install)
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGINT) is before
