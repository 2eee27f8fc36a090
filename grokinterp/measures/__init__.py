"""WHAT IS READ off a snapshot: one module a family of measures."""
