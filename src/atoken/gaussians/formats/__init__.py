"""Files of Gaussians: PLY, compressed PLY, .splat, SPZ and SOG."""
