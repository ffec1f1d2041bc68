"""What scripts/benchmark measures: a module for training, one for inference, one for whole processes."""
