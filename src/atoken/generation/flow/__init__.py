"""Continuous tokens: flow matching with a diffusion transformer.

One convention of time holds everywhere below: t = 0 is data and t = 1 is noise. With data x and noise e,

    x_t = (1 - t) x + t e        v = dx_t / dt = e - x

so that drawing goes from t = 1 down to t = 0. RAE, SD3 and TRELLIS count like this; SiT and LightningDiT count the
other way round, so that their shift a is 1 / a here.
"""
