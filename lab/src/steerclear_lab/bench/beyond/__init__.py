"""Beyond diffusion: a VAE and a generator that have memorized planted pictures, and their guards."""
