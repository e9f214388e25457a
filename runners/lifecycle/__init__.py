"""A run's life: launch, supervise, stop, provenance, replay, and the events that tell of it."""
