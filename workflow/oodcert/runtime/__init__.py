"""What every computation rests on: keyed noise, determinism, memory, GPUs, files. It knows nothing of detection."""
