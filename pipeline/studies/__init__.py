"""Studies over many runs: experiments, sweeps, comparisons, the paper's tables."""
