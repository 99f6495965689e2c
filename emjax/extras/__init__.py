"""Leaves around the core, each behind an optional dependency: tables, files, the command line, plots, progress."""
