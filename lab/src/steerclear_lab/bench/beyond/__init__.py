"""Beyond diffusion: a small VAE and a small GAN that have memorized a planted set, and how their guard does."""
