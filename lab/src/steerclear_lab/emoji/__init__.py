"""The recipe of the embedded model: a small Stable Diffusion that has memorized a few protected pictures; and its siblings."""
