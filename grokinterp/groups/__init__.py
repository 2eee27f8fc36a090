"""Finite groups: elements, products, representations and Fourier transforms."""
