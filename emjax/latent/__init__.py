"""The structure over components: mixture weights; one file a structure."""
