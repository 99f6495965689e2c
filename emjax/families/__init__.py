"""p(y | x, component): one file a family."""
