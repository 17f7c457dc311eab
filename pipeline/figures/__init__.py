"""Figures for print: the paper's, and one's own sweeps, drawn from what is stored."""
