"""The worker room: loads model versions on a device, forms batches and runs them. Nobody imports it but its own main."""
