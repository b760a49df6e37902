"""Which of several schedulers leads."""
