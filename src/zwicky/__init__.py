"""Zwicky: calibrated posterior maps of the gas and dark matter of galaxy clusters."""
