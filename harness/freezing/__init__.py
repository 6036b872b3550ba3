"""What learns and what stays: policies as data, resolved against a model, applied in one place and checked."""
