"""Chapter 2: backpropagation."""
