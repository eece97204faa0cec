"""A copy descriptor that only judges: no filter and no strategy of the product uses it, and nothing of the
product's descriptor went into it.
"""
