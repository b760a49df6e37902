"""A mesh in virtual time: the gateway's and the worker's own code under a simulated clock, wire and device.

What is real: routing, admission, queues, deadlines, balancing, credit, bundles, batch planning, execution and the
reading and writing of requests. What is simulated: time, the wire between gateway and worker, and the runner, which
takes as long as a measured table says.
"""

from infermesh.simulation.arrivals import Request, Shape
from infermesh.simulation.curves import CURVES, Curve
from infermesh.simulation.main import simulate
from infermesh.simulation.report import Report
from infermesh.simulation.scenario import Model, Noise, Scenario

__all__ = ["CURVES", "Curve", "Model", "Noise", "Report", "Request", "Scenario", "Shape", "simulate"]
