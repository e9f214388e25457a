"""Load any supported checkpoint: families, conversions, quantization, LoRA."""
