"""Chapter 4: networks that compute any function."""
