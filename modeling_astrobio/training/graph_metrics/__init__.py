"""Metrics of generated molecules, of latents and of uncertainties; needs the extra chem."""
