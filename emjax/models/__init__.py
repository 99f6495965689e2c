"""What the engine can run: a latent structure composed with a family."""
