"""Scoring methods; each declares the text sets and views that it reads."""
