"""What is done about clients that take too much: limits, timeouts and what happens when memory runs short.

Pure: gives parts of the bootstrap, used by `envoy`, and the limits for the app's own `framing/guard.py`.
"""

import sys
from typing import Any, Final

from infermesh.gateway.config import BESIDE_HEAP, GatewayConfig
from infermesh.gateway.framing.frames import Limits

STREAM_WINDOW: Final = 1 << 20
"""Bytes that may be on their way to or from one call before somebody waits."""
CONNECTION_WINDOW: Final = 16 << 20
_INSPECTOR: Final = "filters.listener.http_inspector"
_HEAP: Final = "envoy.resource_monitors.fixed_heap"
_CONNECTIONS: Final = "envoy.resource_monitors.global_downstream_max_connections"
# Linux: option names of setsockopt
_IPPROTO_TCP, _TCP_USER_TIMEOUT = 6, 18
AGE_JITTER: Final = 0.1
"""Share of its age that a connection may live longer: those that came together shall not all go together."""
# shares of the heap at which Envoy does something about it
_SHRINK, _RESET, _REFUSE, _CLOSE = 0.6, 0.75, 0.9, 0.95


def requests(config: GatewayConfig) -> Limits:
    """Returns what the app lets requests take."""
    clients = config.clients
    return Limits(
        message=config.max_body_bytes,
        ratio=clients.max_ratio,
        held=config.held_bytes,
        body_timeout=clients.body_timeout,
        min_rate=clients.min_rate,
    )


def listener(config: GatewayConfig) -> dict[str, Any]:
    """Returns the limits of the listener."""
    clients = config.clients
    limits: dict[str, Any] = {
        "per_connection_buffer_limit_bytes": STREAM_WINDOW,
        # a connection has to say something before it costs more than a socket
        "listener_filters": [_extension(f"envoy.{_INSPECTOR}", f"{_INSPECTOR}.v3.HttpInspector")],
        "listener_filters_timeout": _seconds(clients.header_timeout),
        "tcp_keepalive": {
            "keepalive_time": max(1, round(clients.ping_interval)),
            "keepalive_interval": max(1, round(clients.ping_timeout / 2)),
            "keepalive_probes": 2,
        },
    }
    if sys.platform == "linux":  # a peer that takes no bytes, or does not answer: the kernel ends it
        milliseconds = round(clients.stall_timeout * 1000)
        option = {"level": _IPPROTO_TCP, "name": _TCP_USER_TIMEOUT, "int_value": milliseconds, "state": "STATE_PREBIND"}
        limits["socket_options"] = [option]
    return limits


def connections(config: GatewayConfig) -> dict[str, Any]:
    """Returns the limits of a connection and its calls."""
    clients = config.clients
    return {
        "request_headers_timeout": _seconds(clients.header_timeout),
        # a request's body is watched by the app, which knows where a message begins and ends
        "request_timeout": "0s",
        # the app shows life on a call that is silent with good reason
        "stream_idle_timeout": _seconds(clients.stall_timeout),
        "stream_flush_timeout": _seconds(clients.stall_timeout),
        "common_http_protocol_options": {"idle_timeout": _seconds(clients.idle_timeout), **_age(config)},
        # HTTP/1 can't be told but by an answer: with its next one, not in the middle of a call
        "http1_safe_max_connection_duration": True,
        "http2_protocol_options": {
            "max_concurrent_streams": clients.max_streams,
            # one malformed request ends its stream, not its neighbours'
            "override_stream_error_on_invalid_http_message": True,
            "initial_stream_window_size": STREAM_WINDOW,
            "initial_connection_window_size": CONNECTION_WINDOW,
            "connection_keepalive": {
                "interval": _seconds(clients.ping_interval),
                "timeout": _seconds(clients.ping_timeout),
            },
        },
    }


def _age(config: GatewayConfig) -> dict[str, Any]:
    """Connections that came together, after a gateway's end, shall not all go together."""
    age = config.clients.max_connection_age
    jitter = {"value": 100 * AGE_JITTER}  # percent
    return {"max_connection_duration": _seconds(age), "max_connection_duration_jitter": jitter} if age else {}


def overload_manager(config: GatewayConfig) -> dict[str, Any]:
    """Returns what is done when there are too many connections, or when memory runs short.

    First what is free goes back to the system, then the streams that hold most are reset (their readers are slow), then
    new calls are answered UNAVAILABLE, then new connections are closed.
    """
    size = config.max_memory_bytes - BESIDE_HEAP
    heap = _extension(_HEAP, "resource_monitors.fixed_heap.v3.FixedHeapConfig", max_heap_size_bytes=size)
    open_ = _extension(
        _CONNECTIONS,
        "resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
        max_active_downstream_connections=config.clients.max_connections,
    )
    return {
        "refresh_interval": "0.25s",
        "resource_monitors": [open_, heap],
        # which streams hold how much is known from 16 KiB on
        "buffer_factory_config": {"minimum_account_to_track_power_of_two": 14},
        "actions": [
            _action("shrink_heap", {"threshold": {"value": _SHRINK}}),
            _action(
                "reset_high_memory_stream",
                {"scaled": {"scaling_threshold": _RESET, "saturation_threshold": _REFUSE}},
            ),
            _action("stop_accepting_requests", {"threshold": {"value": _REFUSE}}),
            _action("reject_incoming_connections", {"threshold": {"value": _CLOSE}}),
        ],
    }


def runtime(config: GatewayConfig) -> dict[str, Any]:
    """Returns the limits that Envoy has as runtime keys: calls that are cancelled as soon as they are made."""
    keys = {
        "overload.premature_reset_total_stream_count": config.clients.max_resets,
        # in whole seconds: a call that lived that long was meant
        "overload.premature_reset_min_stream_lifetime_seconds": 0,
        "http.max_requests_per_io_cycle": config.clients.calls_at_once,
    }
    return {"layers": [{"name": "protection", "static_layer": keys}]}


def _action(name: str, trigger: dict[str, Any]) -> dict[str, Any]:
    return {"name": f"envoy.overload_actions.{name}", "triggers": [{"name": _HEAP, **trigger}]}


def _extension(name: str, message: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "typed_config": {"@type": f"type.googleapis.com/envoy.extensions.{message}", **fields}}


def _seconds(value: float) -> str:
    return f"{value:.3f}s"
