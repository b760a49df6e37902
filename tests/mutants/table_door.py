"""Faults of the gateway's gRPC port: calls, windows, limits, the way out."""

from typing import Final

from tests.mutants.mutant import Mutant

_U: Final = "tests/unit/gateway/"

DOOR: Final = (
    Mutant(
        "cancelled-at-the-port-goes-on",
        "gateway/door/call.py",
        "        if running is not None:\n            running.cancel()",
        "        if running is not None:\n            pass",
        (f"{_U}test_door_ends.py::test_a_direct_call_that_ends_before_its_answer_is_cancelled_once",),
        "a call whose caller has gone goes on at the worker",
    ),
    Mutant(
        "port-window-ignored",
        "gateway/door/call.py",
        "        if size > self.window or size > line.window or size > line.frame_size or line.paused:",
        "        if line.paused:",
        (f"{_U}test_door_flow.py::test_an_answer_waits_for_the_windows",),
        "an answer is larger than the caller has room for",
    ),
    Mutant(
        "port-room-not-given-back",
        "gateway/door/connection.py",
        "            self.write(frames.window_update(0, self._owed))\n            self._kept -= self._owed",
        "            self._kept -= self._owed",
        (f"{_U}test_door_flow.py::test_room_of_the_connection_is_given_back_for_all_that_came",),
        "a connection stands still after sixteen mebibytes of requests",
    ),
    Mutant(
        "port-leaves-without-a-word",
        "gateway/door/connection.py",
        "            self._goodbye = self._loop.call_later(DRAIN_TIMEOUT, self._leave_for_good)",
        "            self._leave_for_good()",
        (f"{_U}test_door_leaving.py::test_who_is_sent_away_is_served_until_he_has_heard_it",),
        "calls that a client sends before it has heard that the gateway leaves are lost",
    ),
    Mutant(
        "port-resets-not-counted",
        "gateway/door/connection.py",
        "        self._resets += 1",
        "        self._resets += 0",
        (f"{_U}test_door_limits.py::test_who_cancels_all_calls_as_soon_as_they_are_made_is_cut",),
        "a client may make and cancel calls without end",
        slow=True,
    ),
    Mutant(
        "port-memory-unbounded",
        "gateway/door/connection.py",
        "        if self.kept + self.waiting <= self.room:\n            return\n        calls",
        "        if self.room:\n            return\n        calls",
        (f"{_U}test_door_limits.py::test_requests_that_nobody_reads_are_bounded_for_all_together",),
        "what clients leave unread takes all memory",
        slow=True,
    ),
    Mutant(
        "headers-of-another-call",
        "mesh/http2/fields.py",
        "        self._known.clear()\n        self._entries.clear()\n        return fields",
        "        return fields",
        ("tests/unit/mesh/test_http2_fields.py::test_what_was_read_before_the_table_changed_is_read_again",),
        "a call gets headers that were said before the table changed",
    ),
)
