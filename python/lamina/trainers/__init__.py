"""Training: what `Model` inherits to be compiled, fitted, evaluated and used for predictions."""
