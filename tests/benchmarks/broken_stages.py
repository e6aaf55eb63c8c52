"""Stages that end abnormally, each after a check that passes."""

import os
import signal
import time

from gpu_checks.records import Finding, Recorder, expect
from gpu_checks.subjects import Setting


def good(_setting: Setting, recorder: Recorder) -> None:
    recorder.check("fine", lambda: Finding("as it should be", {"value": 1}))


def crashing(setting: Setting, recorder: Recorder) -> None:
    good(setting, recorder)
    recorder.check("crash", lambda: os.kill(os.getpid(), signal.SIGSEGV))


def hanging(setting: Setting, recorder: Recorder) -> None:
    good(setting, recorder)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    recorder.check("hang", lambda: time.sleep(600))


def raising(setting: Setting, recorder: Recorder) -> None:
    good(setting, recorder)
    raise ValueError("between two checks")


def failing(setting: Setting, recorder: Recorder) -> None:
    recorder.check("wrong", lambda: expect(False, "one is not two", {"value": 2}))
    recorder.check("broken", lambda: {}["nothing"])
    recorder.check("refused", lambda: setting.train(setting.candidate(batch_size=10_000)))
    good(setting, recorder)
