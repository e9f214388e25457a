"""GPUs, CPU and memory as they are, and how much a run will need."""
