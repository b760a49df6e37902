"""The front door: every public protocol, routing, and the way to the workers. Holds no state."""
