"""Leadership where there is but one scheduler."""

import asyncio


class Always:
    """Leads from the beginning, for ever."""

    async def run(self) -> None:
        """See Leadership."""
        await asyncio.Event().wait()

    async def gained(self) -> str:
        """See Leadership."""
        return "there is no other"

    async def lost(self) -> str:
        """See Leadership; never returns."""
        await asyncio.Event().wait()
        return ""

    def holds(self) -> bool:
        """See Leadership."""
        return True

    async def release(self) -> None:
        """See Leadership."""
