"""The scheduler's room: decides which worker holds which version, tells gateways where they are, and tells the registry
what became of its deployments. Holds nothing on disk; started as `python -m infermesh.scheduler`."""
