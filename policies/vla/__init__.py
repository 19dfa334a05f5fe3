"""Vision-language-action policies of equal size: pi0, pi0.5, knowledge insulation, GR00T N1.6, L1 regression."""
