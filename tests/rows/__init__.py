"""Rows of the contract battery, one file a family or model."""
