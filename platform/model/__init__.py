"""What the user brings: a network, its weights, its reference, and how they are named."""
