"""Chapter 3: costs and regularisation."""
