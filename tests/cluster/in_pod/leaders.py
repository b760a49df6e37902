"""Runs in a gateway's pod: how many of the addresses given (JSON, as argument) take connections, time and again.

Prints for every look a line `seconds count`, for as many seconds as the second argument says. Schedulers listen only
while they lead.
"""

import asyncio
import json
import sys
import time

PATIENCE = 0.5


async def reaches(address):
    host, _, port = address.rpartition(":")
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(host, int(port)), PATIENCE)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


async def main():
    addresses, began = json.loads(sys.argv[1]), time.monotonic()
    while time.monotonic() - began < float(sys.argv[2]):
        found = await asyncio.gather(*map(reaches, addresses))
        print(f"{time.time():.2f} {sum(found)}", flush=True)
        await asyncio.sleep(0.2)


asyncio.run(main())
