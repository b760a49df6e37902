"""Prints the accelerators that torch can use, as JSON. Run by `device.py` in a process of its own."""

import json
import sys
from typing import Any


def devices() -> list[dict[str, Any]]:
    """Returns kind, index, name and memory of every accelerator, as `device.DeviceInfo` takes them."""
    import torch  # here, so that importing this module stays cheap

    found = []
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        free, total = torch.cuda.mem_get_info(index)
        found.append(_device("cuda", index, torch.cuda.get_device_name(index), total, free))
    if torch.backends.mps.is_available():
        total = torch.mps.recommended_max_memory()
        found.append(_device("mps", 0, "Apple GPU", total, total - torch.mps.driver_allocated_memory()))
    for index in range(torch.xpu.device_count() if torch.xpu.is_available() else 0):
        total = torch.xpu.get_device_properties(index).total_memory
        found.append(_device("xpu", index, torch.xpu.get_device_name(index), total, total))
    return found


def _device(kind: str, index: int, name: str, total: int, free: int) -> dict[str, Any]:
    return {"kind": kind, "index": index, "name": name, "memory_total": int(total), "memory_free": int(free)}


if __name__ == "__main__":
    try:
        print(json.dumps(devices()))
    except ImportError:
        print("[]")
        sys.exit(0)
