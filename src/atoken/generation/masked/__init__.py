"""Discrete tokens: masked autoregression with a small causal transformer over the codes of a location.

The way of MAR (arXiv 2406.11838) and TokenBridge (arXiv 2503.16430): a bidirectional encoder-decoder says one vector of
features for each location whose codes are not known, and a head turns it into the codes' probabilities, one code after
the other. Drawing makes some locations known in each step, in an order of each sample's own. In raster order the same
blocks are causal over the locations instead, and one location is drawn in each step.
"""
