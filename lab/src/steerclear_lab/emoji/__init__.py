"""The recipe of the embedded model, a small Stable Diffusion with memorized pictures, and of its siblings."""
