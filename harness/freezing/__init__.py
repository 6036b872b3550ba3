"""What learns and what stays: policies as data, their names resolved against a model, and the one place that applies them."""
