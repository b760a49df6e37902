"""Runs in a pod: does nothing, so that others can look around from there."""

import signal

signal.pause()
