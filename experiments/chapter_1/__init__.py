"""Chapter 1: perceptrons and handwritten digits."""
