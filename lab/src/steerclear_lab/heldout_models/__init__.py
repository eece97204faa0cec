"""Two further models in Stable Diffusion format, kept out of all tuning: rules are measured on them only.

Their pictures, planted pictures, captions and weights share nothing with the embedded model's.
"""
