"""Load for a server of the Open Inference Protocol, and what it did to the calls. Used by `infermesh bench`.

A call is timed from the moment at which it was meant to be sent, not from when it was: while a server stands still,
calls go on being due, and each of them is as late as its user would have seen it. So no omission is coordinated with
the server. `arrivals` says when calls are due, `runner` makes them, `recording` counts them in HDR histograms, `report`
and `plot` show what came of it; `children` spreads all that over processes.
"""
