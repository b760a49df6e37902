"""Which of several schedulers leads: `always` where there is but one, `election` over a Lease where there are more.
Only the one that leads plans, reports and listens; the others stand by."""
