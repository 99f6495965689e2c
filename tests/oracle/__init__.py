"""EM written as explicit loops in NumPy, to compare emjax with. Nothing here imports jax."""
