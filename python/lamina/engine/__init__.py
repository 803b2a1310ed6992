"""What stands between the Python face and the Rust engine: symbolic tensors, variables, tracing,
gradients.
"""
