"""R models that train as one tensor program; the module is the specification, the engine computes the same."""
