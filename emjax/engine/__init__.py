"""EM for many lanes: the only room that knows a lane axis."""
