"""Where chains are trained: on this machine, or elsewhere; the same bytes everywhere."""
