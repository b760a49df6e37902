"""The worker room: loads model versions on a device, forms batches and runs them. Only its own main imports it."""
