"""Traffic in the formats of other simulators."""
