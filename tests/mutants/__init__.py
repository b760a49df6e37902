"""Faults that are planted on purpose, and the tests that must notice each: the suite is shown to be able to fail.

`table_*.py` list the faults; `python -m tests.mutants` plants all of them, one after the other, and `test_mutants`
those that are not slow. A fault is a change of text, so a change of the product may leave it without a place:
then the table must follow, and says so.
"""
