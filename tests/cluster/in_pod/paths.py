"""Runs in a pod: says to which of the addresses given (JSON, as argument) a TCP connection can be made, as JSON."""

import asyncio
import json
import sys

PATIENCE = 2.0  # seconds; a network policy drops what it forbids


async def reaches(address):
    host, _, port = address.rpartition(":")
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(host, int(port)), PATIENCE)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


async def main():
    addresses = json.loads(sys.argv[1])
    found = await asyncio.gather(*map(reaches, addresses))
    print(json.dumps(dict(zip(addresses, found, strict=True))))


asyncio.run(main())
