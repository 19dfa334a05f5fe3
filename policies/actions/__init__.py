"""Action chunks as numbers: normalisation, FAST tokens, smoothing, real-time chunking."""
