"""Models by name, their stages, and the weights that enter them."""
